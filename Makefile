# One target a habit. All of it is for Debian 12 as root with Rust installed; see docs/lab.md.
# YES=1 installs missing packages without asking. KEEP=1 leaves the demo's servers up to play with.
.PHONY: demo test lint bench docs clean
export YES KEEP

demo:
	@lab/deps build lab
	@cargo build
	@lab/enter lab/demo.sh

test: lint
	@lab/deps build lab test
	cargo test --no-run --features failpoints
	lab/tests

lint:
	@lab/deps build lint
	cargo fmt --check
	cargo clippy --all-targets --features failpoints -- -D warnings
	shellcheck $$(grep -rlE '^#(!/bin/(ba)?sh| shellcheck shell=bash)' lab .ci)

bench:
	@lab/deps build lab
	cargo bench --no-run
	lab/enter cargo bench --offline

docs:
	cargo doc --no-deps

clean:
	cargo clean
