"""Work on a sweep: train what its folder lists, as one of any number of workers."""

from tuning.trials.sweep import main

if __name__ == "__main__":
    main()
