# Sourced by run_all.sh and run_tests.sh: makes .venv from uv.lock, or does nothing when it is as the lock says.

stamp=.venv/.made-from-lock
wanted=$(cat uv.lock pyproject.toml | cksum)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    uv=$(command -v uv || true)
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
    echo "making the environment in .venv (a few GB with PyTorch; once) ..." >&2
    "$uv" sync --locked
    echo "$wanted" > "$stamp"
fi
