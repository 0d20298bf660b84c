# Not built here: no container engine was at hand. The base image is small, since torch's wheels bring CUDA; the host brings the driver
# (580 or newer: docs/cluster.md) and NVIDIA's container toolkit.
#
#     docker build -t exp1 .
#     docker run --gpus all --shm-size=8g -v /data:/data -v "$HOME/.cache/huggingface:/cache" exp1 train_exp1.py --config /data/my.yaml
#
# The configuration's output_dir has to lie under /data, or it is gone with the container.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /exp1
COPY requirements.txt requirements.lock ./
RUN sed '/^# requirements-dev/,$d' requirements.lock > /tmp/lock && pip install --no-cache-dir -r /tmp/lock
COPY . .
ENV HF_HOME=/cache
# python becomes process 1, so that `docker stop` (SIGTERM) reaches it: training saves and ends with 75. docker stop --time 120
ENTRYPOINT ["python"]
