# Two commands are all: `make run` (the main job) and `make test`. `make help` lists the rest.
#
# Settings are given on the command line and become params: make run data.source=faces.zip preset=grey-48

PYTHON ?= python3
VENV := .venv
SERVE_VENV := .venv-serve
VENDOR := serving/static/vendor
WEB_FILES := $(addprefix onnxruntime-web/dist/,ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm) \
  $(addprefix swagger-ui-dist/,swagger-ui-bundle.js swagger-ui.css)
UV := $(VENV)/bin/uv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE # a stage that compiles TensorFlow anew at every start loses seconds

# `data.source=x` among the words after `make` reaches `emotion run` as it is.
PARAMS = $(foreach word,$(filter seed=% data.% validation.% training.% models.% inference.% evaluation.% export.% gate.% registry.%,$(MAKEOVERRIDES)),'$(word)')
preset ?=

.DEFAULT_GOAL := help
.PHONY: help run zoo test check serve web prometheus monitor dashboards ui lock setup clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.train ## Retrain what changed, promote the best model through the gate, print the results
	emotion run $(if $(preset),--preset $(preset)) $(PARAMS)

zoo: $(VENV)/.train ## Train every architecture at small size and compare them; promotes nothing
	emotion run --preset zoo --no-promote $(PARAMS)

test: check $(SERVE_VENV)/.serve web prometheus ## Static checks, then every test
	@command -v chromium >/dev/null || apt-get install -y chromium || echo 'no chromium: the page is not tested' >&2
	pytest -n 2 --dist loadgroup $(TESTS)

check: $(VENV)/.dev ## Static checks only: format, lint, types, locks
	ruff format --check .
	ruff check .
	mypy

serve: $(SERVE_VENV)/.serve web ## Serve the champion at http://127.0.0.1:8000
	PYTHONPATH=src $(SERVE_VENV)/bin/python -m serving

monitor: $(SERVE_VENV)/.serve prometheus ## Prometheus, Alertmanager, Pushgateway and the retrain webhook beside `make serve`; Ctrl-C ends them
	PYTHONPATH=src $(SERVE_VENV)/bin/python -m monitoring.local $(MONITOR)

dashboards: $(VENV)/.dev ## Write monitoring/grafana/dashboards/*.json from monitoring/dashboards and docs/runbook.md
	PYTHONPATH=src python -m monitoring.dashboards

prometheus:
	@{ command -v prometheus && { command -v prometheus-alertmanager || command -v alertmanager; } && \
	  { command -v prometheus-pushgateway || command -v pushgateway; }; } >/dev/null || \
	  apt-get install -y --no-install-recommends prometheus prometheus-alertmanager prometheus-pushgateway || \
	  echo 'Prometheus, Alertmanager or Pushgateway is missing: what watches the server can neither run nor be tested' >&2

web: $(VENDOR)/.web ## What browsers run: ONNX Runtime for the page's switch "On this device", Swagger UI for /docs; takes npm

ui: $(VENV)/.train ## MLflow's pages at http://127.0.0.1:5000
	emotion ui

setup: $(VENV)/.dev $(SERVE_VENV)/.serve web ## Both environments, nothing else

lock: $(UV) ## Compile requirements/*.in into hashed locks
	for name in uv dev train serve; do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    $$(case $$name in train|serve) echo -c requirements/dev.txt;; esac) \
	    -o requirements/$$name.txt requirements/$$name.in || exit 1; \
	done
	cd benchmarks/serving/peers && for name in fastapi litserve bentoml mlflow; do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    $$(case $$name in bentoml) ;; *) echo -c $(CURDIR)/requirements/serve.txt;; esac) \
	    -o $$name.txt $$name.in || exit 1; \
	done

clean: ## Remove environments and caches; what DVC and MLflow keep stays
	rm -rf $(VENV) $(SERVE_VENV) $(VENDOR) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || apt-get install -y python3-venv || \
	  { echo "error: $(PYTHON) cannot make virtual environments; install its venv package" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.train: requirements/train.txt pyproject.toml $(UV)
	uv pip install --quiet --python $(VENV) --require-hashes -r requirements/train.txt
	uv pip install --quiet --python $(VENV) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.train
	uv pip install --quiet --python $(VENV) --require-hashes -r requirements/dev.txt
	@touch $@

$(SERVE_VENV)/.serve: requirements/serve.txt $(UV)
	uv venv --quiet --clear --python $(VENV)/bin/python $(SERVE_VENV)
	uv pip install --quiet --python $(SERVE_VENV) --require-hashes -r requirements/serve.txt
	@touch $@

$(VENDOR)/.web: requirements/web/package-lock.json
	@mkdir -p $(VENDOR)
	@rm -rf $(VENDOR)/tmp && cp -r requirements/web $(VENDOR)/tmp && \
	npm ci --loglevel=error --ignore-scripts --prefix $(VENDOR)/tmp && \
	cp $(addprefix $(VENDOR)/tmp/node_modules/,$(WEB_FILES)) $(VENDOR) && \
	rm -r $(VENDOR)/tmp && touch $@ || \
	echo 'npm is missing or failed: the page cannot run models in the browser, /docs has no UI; all else works' >&2
