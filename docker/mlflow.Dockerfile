# MLflow's server for a team: runs and versions in PostgreSQL, files in S3. docker/compose.yml starts it.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON} AS environment
WORKDIR /build
COPY requirements/uv.txt ./
RUN python3 -m venv uv && uv/bin/pip install --no-cache-dir --require-hashes --requirement uv.txt
COPY requirements/mlflow.txt ./
RUN uv/bin/uv venv --no-cache --python python3 /opt/venv \
 && uv/bin/uv pip install --no-cache --python /opt/venv --require-hashes --only-binary :all: --compile-bytecode \
      --requirement mlflow.txt

FROM ${PYTHON}
RUN groupadd --gid 10001 mlflow \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mlflow
COPY --from=environment /opt/venv/ /opt/venv/
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
ARG REVISION=unknown
LABEL org.opencontainers.image.title="MLflow on PostgreSQL and S3" \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.base.name=docker.io/library/python:3.11-slim-bookworm
WORKDIR /tmp
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]
