# Everything from raw faces to a registered model, in a checkout mounted or cloned at /work; CPU, or with CUDA:
#
#   docker build --file docker/train.Dockerfile --tag emotion-train .
#   docker build --file docker/train.Dockerfile --tag emotion-train-gpu --build-arg LOCK=train-gpu .
#   docker run --rm --user "$(id -u):$(id -g)" --volume .:/work emotion-train run
#   docker run --rm --user "$(id -u):$(id -g)" --volume .:/work --gpus all emotion-train-gpu run data.source=fer2013.zip
#
# Its words are targets of the Makefile.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON} AS environment
ARG LOCK=train
WORKDIR /build
COPY requirements/uv.txt ./
RUN python3 -m venv uv && uv/bin/pip install --no-cache-dir --require-hashes --requirement uv.txt
COPY requirements/${LOCK}.txt lock.txt
RUN uv/bin/uv venv --no-cache --python python3 /opt/venv \
 && uv/bin/uv pip install --no-cache --python /opt/venv --require-hashes --compile-bytecode --requirement lock.txt
# The checkout itself, editable: the code is what is mounted at /work.
WORKDIR /work
COPY pyproject.toml ./
COPY src/emotion_detection/__init__.py src/emotion_detection/
RUN /build/uv/bin/uv pip install --no-cache --python /opt/venv --no-deps --no-build-isolation --editable . \
 && cp /build/uv/bin/uv /opt/venv/bin/ && touch /opt/venv/.train

FROM ${PYTHON}
# Security updates of Debian come with the base, whose digest pins what is installed here to what its snapshot knew.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 emotion \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin emotion
COPY --from=environment /opt/venv/ /opt/venv/
# A mounted checkout belongs to somebody else; git would refuse it. DVC asks for the user's name, and a number given by
# --user has none; what it keeps in /var/tmp otherwise goes where a read-only root lets it.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    USER=emotion \
    DVC_SITE_CACHE_DIR=/tmp/dvc \
    PYTHONUNBUFFERED=1 \
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=/work
ARG REVISION=unknown
LABEL org.opencontainers.image.title="emotion-detection training" \
      org.opencontainers.image.licenses=MIT \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.base.name=docker.io/library/python:3.11-slim-bookworm
WORKDIR /work
USER 10001:10001
# The environment is here: make is to build none.
ENTRYPOINT ["make", "VENV=/opt/venv", "--old-file=/opt/venv/.train", "--old-file=/opt/venv/bin/uv"]
CMD ["run"]
