"""`python -m kcnn.diagnose`. Nothing imports this file: its name is that of the function kcnn.diagnose."""

from kcnn.diagnosing import main

if __name__ == "__main__":
    main()
