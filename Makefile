# Two commands are all: `make run` (the main job) and `make test`. `make help` lists the rest.
#
# Settings are given on the command line and become params: make run data.source=faces.zip preset=grey-48

PYTHON ?= python3
VENV := .venv
SERVE_VENV := .venv-serve
AUDIT_VENV := .venv-audit
AUDIT := $(AUDIT_VENV)/bin
VENDOR := serving/static/vendor
WEB_FILES := $(addprefix onnxruntime-web/dist/,ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm) \
  $(addprefix swagger-ui-dist/,swagger-ui-bundle.js swagger-ui.css)
UV := $(VENV)/bin/uv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE # a stage that compiles TensorFlow anew at every start loses seconds

# `data.source=x` among the words after `make` reaches `emotion run` as it is: whatever has a dot in its name, and the seed.
PARAMS = $(foreach word,$(MAKEOVERRIDES),$(if $(or $(filter seed=%,$(word)),$(findstring .,$(firstword $(subst =, ,$(word))))),'$(word)'))
preset ?=
jobs ?=

.DEFAULT_GOAL := help
.PHONY: help run zoo test check serve web prometheus postgresql monitor dashboards ui lock setup clean \
  remote retrain report baseline push shards gate promote rollback images push-image deploy \
  audit audit-workflows audit-images audit-secrets audit-licences audit-sbom audit-vulnerabilities

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.train ## Retrain what changed, promote the best model through the gate, print the results
	emotion run $(if $(jobs),--jobs $(jobs)) $(if $(preset),--preset $(preset)) $(PARAMS)

zoo: $(VENV)/.train ## Train every architecture at small size and compare them; promotes nothing
	emotion run $(if $(jobs),--jobs $(jobs)) --preset zoo --no-promote $(PARAMS)

test: check $(SERVE_VENV)/.serve $(AUDIT_VENV)/.audit web prometheus postgresql ## Static checks, then every test
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

postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || apt-get install -y --no-install-recommends postgresql || \
	  echo 'PostgreSQL is missing: what a team shares is not tested' >&2

web: $(VENDOR)/.web ## What browsers run: ONNX Runtime for the page's switch "On this device", Swagger UI for /docs; takes npm

ray: $(VENV)/.ray ## What EMOTION_ENGINE=ray takes, on every machine of a cluster: docs/ray.md

ui: $(VENV)/.train ## MLflow's pages at http://127.0.0.1:5000
	emotion ui

setup: $(VENV)/.dev $(SERVE_VENV)/.serve web ## Both environments, nothing else

# What workflows run. DVC_REMOTE_URL names a DVC remote: what is unchanged is fetched. Without it, as in a fork, it is made anew.
remote: $(VENV)/.train
	@if [ -n "$$DVC_REMOTE_URL" ]; then dvc remote add --quiet --local --force --default shared "$$DVC_REMOTE_URL"; fi

retrain: remote ## SETTINGS="KEY=VALUE ...": run what changed, fetch what did not, register; promotes nothing
	@mkdir -p report
	@set -efo pipefail; if [ -n "$$DVC_REMOTE_URL" ]; then \
	  fetch='--pull --allow-missing'; [ ! -f dvc.lock ] || dvc pull --allow-missing; \
	fi; emotion run --no-promote $$SETTINGS -- $$fetch $$FORCE | tee report/log.txt
retrain: SHELL := /bin/bash

report: $(VENV)/.train ## BASE="REVISION DIRECTORY ...": figures against the first of them that has some, into report/
	@emotion report --log report/log.txt

baseline: ## Keep today's figures for the next report
	@mkdir -p .cache/baseline && cp params.yaml comparison/metrics.json .cache/baseline

push: remote ## Share what was made through the DVC remote
	@if [ -n "$$DVC_REMOTE_URL" ]; then dvc push --run-cache; else echo 'DVC_REMOTE_URL is not set: nothing is shared'; fi

shards: remote
	@dvc repro $${DVC_REMOTE_URL:+--pull} shards >&2

gate: shards ## VERSION=3: what the gate says of a version; changes nothing
	@emotion gate "$$VERSION"

promote: shards ## VERSION=3 [REASON="..."]: make a version champion, through the gate or, with a reason, past it
	@emotion promote "$$VERSION" $${REASON:+--force --reason "$$REASON"}

rollback: $(VENV)/.train ## Make the previous champion champion again
	@emotion rollback

images: ## Build every image of docker/
	@set -e; for file in docker/*.Dockerfile; do \
	  docker build --build-arg REVISION="$$(git rev-parse HEAD)" --tag emotion-$$(basename $$file .Dockerfile) --file $$file .; \
	done

push-image: ## IMAGE=REGISTRY/NAME [FILE=docker/serve.Dockerfile]: build an image, push it, print it by digest
	@docker build --quiet --build-arg REVISION="$$(git rev-parse HEAD)" --tag "$$IMAGE" \
	  --file "$${FILE:-docker/serve.Dockerfile}" . >&2
	@docker push --quiet "$$IMAGE" >&2
	@docker inspect --format '{{index .RepoDigests 0}}' "$$IMAGE"

deploy: $(SERVE_VENV)/.serve ## OVERLAY=DIRECTORY IMAGE=NAME@sha256:... [TRAIN_IMAGE=...]: roll out, ask, take back what does not answer
	@PYTHONPATH=src $(SERVE_VENV)/bin/python -m deploy.release --overlay "$$OVERLAY" --image "$$IMAGE" \
	  $${TRAIN_IMAGE:+--train-image "$$TRAIN_IMAGE"}

audit: audit-workflows audit-images audit-secrets audit-licences audit-sbom audit-vulnerabilities ## Workflows, images, secrets, licences, SBOM, known vulnerabilities; into audit/

audit-workflows: $(AUDIT_VENV)/.audit
	$(AUDIT)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(AUDIT)/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	$(AUDIT)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(AUDIT)/zizmor --offline --quiet --persona auditor .github
	! [ -d $(AUDIT_VENV)/node_modules ] || node $(AUDIT_VENV)/check.mjs .github/workflows/*.yml .github/actions/*/action.yml

audit-images: $(AUDIT_VENV)/.audit
	$(AUDIT)/hadolint docker/*.Dockerfile
	$(AUDIT)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yml

audit-secrets: $(AUDIT_VENV)/.audit
	@mkdir -p audit && cp .secrets.baseline audit/secrets.json
	@# 3: what is known has moved to other lines
	$(AUDIT)/detect-secrets-hook --no-verify --baseline audit/secrets.json $$(git ls-files ':!.secrets.baseline') || [ $$? -eq 3 ]

# Copyleft is refused. In training, which nobody is given: grandalf (GPL) draws `dvc dag`, pygit2 (GPL) and psycopg (LGPL) may be
# linked with anything, asyncssh and dulwich come under another licence as well; the last three name none in their metadata.
TOLERATED := grandalf pygit2 psycopg psycopg-binary asyncssh dulwich huey namex skops
audit-licences: $(AUDIT_VENV)/.audit $(VENV)/.train $(SERVE_VENV)/.serve
	@mkdir -p audit
	@for name in train:$(VENV) serve:$(SERVE_VENV); do \
	  $(AUDIT)/pip-licenses --python $${name#*:}/bin/python --with-urls --format markdown --output-file audit/licences-$${name%:*}.md || exit 1; \
	done
	@$(AUDIT)/pip-licenses --python $(SERVE_VENV)/bin/python --partial-match --fail-on 'GPL;GNU;UNKNOWN' >/dev/null
	@$(AUDIT)/pip-licenses --python $(VENV)/bin/python --partial-match --fail-on 'GPL;GNU;UNKNOWN' --ignore-packages $(TOLERATED) >/dev/null

audit-sbom: $(AUDIT_VENV)/.audit
	@mkdir -p audit
	for name in $(filter-out uv audit dev,$(basename $(notdir $(wildcard requirements/*.txt)))); do \
	  $(AUDIT)/cyclonedx-py requirements --output-reproducible -o audit/sbom-$$name.cdx.json requirements/$$name.txt || exit 1; \
	done

audit-vulnerabilities: $(AUDIT_VENV)/.audit
	$(AUDIT)/pip-audit --strict --disable-pip --require-hashes $(addprefix -r ,$(wildcard requirements/*.txt)) || \
	  { echo 'Either what is listed above is vulnerable, or PyPI, which knows, could not be asked' >&2; exit 1; }

lock: $(UV) ## Compile requirements/*.in into hashed locks
	for name in uv dev train train-gpu ray serve mlflow audit; do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    $$(case $$name in train*|ray|serve|mlflow) echo -c requirements/dev.txt;; esac) \
	    -o requirements/$$name.txt requirements/$$name.in || exit 1; \
	done
	cd benchmarks/serving/peers && for name in fastapi litserve bentoml mlflow; do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    $$(case $$name in bentoml) ;; *) echo -c $(CURDIR)/requirements/serve.txt;; esac) \
	    -o $$name.txt $$name.in || exit 1; \
	done

clean: ## Remove environments and caches; what DVC and MLflow keep stays
	rm -rf $(VENV) $(SERVE_VENV) $(AUDIT_VENV) $(VENDOR) .mypy_cache .pytest_cache .ruff_cache .hypothesis

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

$(VENV)/.ray: requirements/ray.txt $(VENV)/.train
	uv pip install --quiet --python $(VENV) --require-hashes -r requirements/ray.txt
	@touch $@

$(SERVE_VENV)/.serve: requirements/serve.txt $(UV)
	uv venv --quiet --clear --python $(VENV)/bin/python $(SERVE_VENV)
	uv pip install --quiet --python $(SERVE_VENV) --require-hashes -r requirements/serve.txt
	@touch $@

$(AUDIT_VENV)/.audit: requirements/audit.txt $(wildcard requirements/workflows/*) $(UV)
	uv venv --quiet --clear --python $(VENV)/bin/python $(AUDIT_VENV)
	uv pip install --quiet --python $(AUDIT_VENV) --require-hashes -r requirements/audit.txt
	cp requirements/workflows/* $(AUDIT_VENV)
	npm ci --loglevel=error --ignore-scripts --prefix $(AUDIT_VENV) || \
	  echo 'npm is missing or failed: the expressions of workflows are not checked' >&2
	@touch $@

$(VENDOR)/.web: requirements/web/package-lock.json
	@mkdir -p $(VENDOR)
	@rm -rf $(VENDOR)/tmp && cp -r requirements/web $(VENDOR)/tmp && \
	npm ci --loglevel=error --ignore-scripts --prefix $(VENDOR)/tmp && \
	cp $(addprefix $(VENDOR)/tmp/node_modules/,$(WEB_FILES)) $(VENDOR) && \
	rm -r $(VENDOR)/tmp && touch $@ || \
	echo 'npm is missing or failed: the page cannot run models in the browser, /docs has no UI; all else works' >&2
