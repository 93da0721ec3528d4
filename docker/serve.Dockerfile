# The server, and with another command the retrain webhook: `make images`, or
#
#   docker build --file docker/serve.Dockerfile --tag emotion-serve .
#   docker run --rm --read-only --tmpfs /tmp --volume ./bundles/lenet:/bundle:ro --env EMOTION_BUNDLE=/bundle \
#     --env EMOTION_ALLOW_ANONYMOUS=true --publish 127.0.0.1:8000:8000 emotion-serve
#   docker run --rm emotion-serve monitoring.retrain --help
#
# Whatever it writes goes to /tmp and /var/lib/emotion; the rest of the file system may be read-only.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
ARG NODE=docker.io/library/node:24.18.0-bookworm-slim@sha256:6f7b03f7c2c8e2e784dcf9295400527b9b1270fd37b7e9a7285cf83b6951452d

# What browsers run.
FROM ${NODE} AS web
WORKDIR /web
COPY requirements/web/ ./
RUN npm ci --loglevel=error --ignore-scripts
WORKDIR /vendor
RUN cp /web/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs \
       /web/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm \
       /web/node_modules/swagger-ui-dist/swagger-ui-bundle.js \
       /web/node_modules/swagger-ui-dist/swagger-ui.css .

FROM ${PYTHON} AS environment
WORKDIR /build
COPY requirements/uv.txt ./
RUN python3 -m venv uv && uv/bin/pip install --no-cache-dir --require-hashes --requirement uv.txt
COPY requirements/serve.txt ./
# Bytecode now: a read-only file system could not keep it, and each start would compile anew.
RUN uv/bin/uv venv --no-cache --python python3 /opt/venv \
 && uv/bin/uv pip install --no-cache --python /opt/venv --require-hashes --only-binary :all: --compile-bytecode \
      --requirement serve.txt

FROM environment AS sbom
COPY requirements/audit.txt ./
RUN uv/bin/uv venv --no-cache --python python3 audit \
 && uv/bin/uv pip install --no-cache --python audit --require-hashes --requirement audit.txt \
 && audit/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/venv/bin/python

FROM environment AS code
WORKDIR /app
COPY src/emotion_detection/ emotion_detection/
COPY monitoring/__init__.py monitoring/
COPY monitoring/retrain/ monitoring/retrain/
COPY serving/ serving/
RUN python3 -m compileall -q --invalidation-mode unchecked-hash .
COPY --from=web /vendor/ serving/static/vendor/

FROM ${PYTHON}
# Numbers, so that Kubernetes can see that it is not root.
RUN groupadd --gid 10001 emotion \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin emotion \
 && install --directory --owner 10001 --group 10001 /var/lib/emotion
COPY --from=environment /opt/venv/ /opt/venv/
COPY --from=sbom /sbom.cdx.json /usr/share/doc/emotion/
COPY --from=code /app/ /app/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EMOTION_HOST=0.0.0.0 \
    EMOTION_CACHE=/var/lib/emotion/bundles \
    EMOTION_FEEDBACK_DIRECTORY=/var/lib/emotion/feedback \
    RETRAIN_STATE=/var/lib/emotion/retrain
ARG REVISION=unknown
LABEL org.opencontainers.image.title="emotion-detection server" \
      org.opencontainers.image.licenses=MIT \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.base.name=docker.io/library/python:3.11-slim-bookworm \
      sbom=/usr/share/doc/emotion/sbom.cdx.json
WORKDIR /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m"]
CMD ["serving"]
