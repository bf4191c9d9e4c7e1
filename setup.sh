# Sourced by run_all.sh and run_tests.sh: makes .venv from uv.lock, or does nothing when it is as the lock says.
# HVAE_TORCH=cpu takes PyTorch's build for CPUs, without CUDA; what was taken is kept until HVAE_TORCH says otherwise.

stamp=.venv/.made-from-lock
made=$(cat "$stamp" 2>/dev/null || true)
build=${HVAE_TORCH:-$(case $made in *cpu) echo cpu ;; esac)}
case $build in
    cpu | cuda | "") ;;
    *)
        echo "error: HVAE_TORCH = $build: allowed are cpu and cuda" >&2
        exit 2
        ;;
esac
wanted=$(cat uv.lock pyproject.toml | cksum)
if [ "$build" = cpu ]; then
    wanted="$wanted cpu"
fi
if [ "$made" != "$wanted" ]; then
    uv=$(command -v uv || true)
    if [ -z "$uv" ] && [ -x .uv/bin/uv ]; then
        uv=.uv/bin/uv
    fi
    if [ -z "$uv" ]; then
        python=""
        for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
            if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                python=$candidate
                break
            fi
        done
        if [ -z "$python" ]; then
            echo "error: no Python; Python 3.11 or newer is needed" >&2
            exit 2
        fi
        echo "getting uv into .uv ..." >&2
        "$python" -m venv .uv
        .uv/bin/python -m pip install --quiet uv
        uv=.uv/bin/uv
    fi
    # Where Python may not keep its bytecode, as in many containers, it is made now: each process would compile PyTorch.
    compile=${PYTHONDONTWRITEBYTECODE:+--compile-bytecode}
    if [ "$build" = cpu ]; then
        # The pins of the lock. PyTorch's builds for CPUs are on its own index, so that the lock has no hashes of them.
        echo "making the environment in .venv (without CUDA; once) ..." >&2
        pins=$("$uv" export --quiet --locked --no-hashes --no-annotate --no-header)
        pins=$(sed -E '/^(cuda|nvidia)-|^triton==/d; s/^(torch|torchvision)==([^ ;]+)/\1==\2+cpu/' <<< "$pins")
        "$uv" venv --quiet --allow-existing .venv
        "$uv" pip sync --quiet --python .venv --torch-backend cpu $compile - <<< "$pins"
    else
        echo "making the environment in .venv (a few GB with PyTorch; once) ..." >&2
        "$uv" sync --locked $compile
    fi
    echo "$wanted" > "$stamp"
fi

# In a git checkout: what running a notebook leaves in its file is no change to git (.gitattributes says of which files).
(
    unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_COMMON_DIR GIT_CONFIG # another repository's, as in a hook of git
    if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ]; then
        strip=".venv/bin/python -m nbstripout --keep-id --extra-keys 'metadata.language_info.codemirror_mode metadata.language_info.file_extension metadata.language_info.mimetype metadata.language_info.nbconvert_exporter metadata.language_info.pygments_lexer metadata.language_info.version cell.metadata.editable cell.metadata.slideshow cell.metadata.jupyter cell.metadata.vscode'"
        if [ "$(git config filter.nbstripout.clean)" != "$strip" ]; then
            git config filter.nbstripout.clean "$strip" || true
        fi
        mkdir -p .venv/etc/jupyter
        echo '{"FileContentsManager": {"post_save_hook": "hvae_core.pipeline.saved.refresh"}}' \
            > .venv/etc/jupyter/jupyter_server_config.json
    fi
) 2>/dev/null || true
