# The image of docs/distributed.md: kcnn on a CPU or, with --build-arg EXTRA="[and-cuda]", on NVIDIA's GPUs.
FROM python:3.12-slim
ARG EXTRA=""
WORKDIR /kcnn
COPY pyproject.toml README.md LICENSE ./
COPY kcnn kcnn
COPY trainers trainers
COPY tuning tuning
RUN pip install --no-cache-dir "tensorflow${EXTRA}>=2.20" ".[serving,weights]"
RUN useradd --create-home kcnn && mkdir -p /runs && chown kcnn /runs
USER kcnn
WORKDIR /runs
ENTRYPOINT ["kcnn"]
CMD ["--help"]
