#!/usr/bin/env bash
# What the Makefile calls:
#   tools/course.sh setup           make .venv and install into it; does nothing when nothing has changed
#   tools/course.sh check PART...   run parts of the test suite, go on after a failure, print a table with durations
# Two environment variables choose another build of torch, for example a CPU build for a laptop (see the README):
#   RCNN_TORCH        what pip installs first          (default: the pair that the tests run with)
#   RCNN_TORCH_INDEX  the package index it comes from  (default: pip's own)
set -u
cd "$(dirname "$0")/.." || exit 1
PYTHON=.venv/bin/python
STAMP=.venv/installed
LOG=.venv/pip.log
: "${RCNN_TORCH:=torch==2.14.1 torchvision==0.29.1}"
: "${RCNN_TORCH_INDEX:=}"

stop() { # the one message that a failed set-up ends with
    printf '\nStopped: %s\n' "$*" >&2
    exit 1
}

# ---------------------------------------------------------------------------------------------------------- set-up

find_python() { # print the first Python that is new enough
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    stop "Python 3.11 or newer is needed, found: $(python3 --version 2>&1 | tail -n 1)." \
        "On Debian or Ubuntu: sudo apt-get install python3 python3-venv (or python3.11 python3.11-venv)."
}

cpu_build() { [[ "$RCNN_TORCH $RCNN_TORCH_INDEX" == *cpu* || "$(uname -s)" == Darwin ]]; }

check_disk() {
    local need=8 free
    cpu_build && need=3
    free=$(df -Pk . | awk 'END { print int($4 / 1048576) }')
    [ "$free" -ge "$need" ] || stop "too little disk: .venv needs $need GB here, $free GB are free." \
        "Make room, or take a CPU build of torch (3 GB in all): see RCNN_TORCH_INDEX in the README."
}

pip_install() { # pip_install ARGUMENT...: pip's own progress on a terminal, silence elsewhere; all of it in the log
    local out=/dev/null
    [ -t 1 ] && [ -z "${CI:-}" ] && out=/dev/stdout
    "$PYTHON" -m pip install --disable-pip-version-check --log "$LOG" "$@" >$out 2>&1 </dev/null && return
    if grep -q 'No space left on device' "$LOG"; then
        stop "the disk ran full while installing. Make room and run the same command again; it goes on where it ended."
    elif grep -Eq 'Retrying \(Retry|Connection refused|Network is unreachable|Temporary failure in name' "$LOG"; then
        stop "the package index cannot be reached: a network is needed this once. Look at the connection, at a proxy" \
            "(https_proxy), and at ${RCNN_TORCH_INDEX:-the index that 'pip config list' names};" \
            "then run the same command again. Details: $LOG"
    fi
    stop "pip could not install '$*'. It said: $(grep -o 'ERROR: .*' "$LOG" | tail -n 1) Details: $LOG"
}

setup() {
    local wanted python start=$SECONDS index=()
    wanted="$(cksum <pyproject.toml) $RCNN_TORCH $RCNN_TORCH_INDEX $PWD"
    [ "$(cat $STAMP 2>/dev/null)" = "$wanted" ] && "$PYTHON" -c '' 2>/dev/null && return

    python=$(find_python) || exit 1
    "$python" -c 'import venv, ensurepip' 2>/dev/null || stop "Python's venv module is missing." \
        "On Debian or Ubuntu: sudo apt-get install python3-venv"
    [ -x "$PYTHON" ] || check_disk
    if cpu_build; then
        echo "Setting up .venv: about 0.5 GB to download, 2 GB on disk, a minute or two on a fast line."
    else
        echo "Setting up .venv: about 3 GB to download, 6.5 GB on disk (torch with CUDA is 5.6 of them),"
        echo "about 5 minutes on a fast line. A CPU build is far smaller: see RCNN_TORCH_INDEX in the README."
    fi

    echo "1/3 .venv with $("$python" --version)"
    "$PYTHON" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv || stop ".venv could not be made."
    rm -f "$STAMP" "$LOG"
    echo "2/3 $RCNN_TORCH ${RCNN_TORCH_INDEX:+from $RCNN_TORCH_INDEX}"
    [ -n "$RCNN_TORCH_INDEX" ] && index=(--index-url "$RCNN_TORCH_INDEX")
    # shellcheck disable=SC2086  # several requirements in one variable
    pip_install ${index[@]+"${index[@]}"} $RCNN_TORCH
    echo "3/3 this course, JupyterLab and the tools of its tests (pyproject.toml)"
    pip_install -e '.[test,dev]'
    "$PYTHON" -c 'import torch, torchvision, rcnnlib' || stop "the installed packages cannot be imported (see above)."
    printf '%s' "$wanted" >"$STAMP"
    rm -f "$LOG"
    echo "Ready after $((SECONDS - start)) s."
}

find_browser() { # print where Chromium or Chrome is; fail where there is none
    "$PYTHON" -c 'from rcnnlib.engine.doctor import find_browser; print(found := find_browser()); exit(not found)'
}

browser() { # the browser tests want Chromium; install it where that is the usual way: as root on Debian
    find_browser >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Chromium for the browser tests (apt-get install chromium fonts-noto-cjk, about 0.4 GB)"
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium fonts-noto-cjk; } \
            >.venv/apt.log 2>&1 </dev/null && return
        echo "apt-get could not install Chromium; details: .venv/apt.log"
    fi
    [ -z "${CI:-}" ] || stop "Chromium is missing, and with CI set the browser tests must run."
    echo "No Chromium: the browser tests will be skipped. On Debian: sudo apt-get install chromium"
}

# ----------------------------------------------------------------------------------------------------------- parts

part_install() { setup && browser; }

part_lint() { # notebooks are built from notebooks/src, which is linted
    "$PYTHON" -m ruff check --extend-exclude '*.ipynb' . &&
        "$PYTHON" -m ruff format --check --extend-exclude '*.ipynb' .
}

part_unit() { "$PYTHON" -m pytest tests -n 2 -q --ignore=tests/e2e --ignore=tests/notebooks --durations=5; }

part_nbval() { # strict: every stored text is compared; --durations names the slow cells
    "$PYTHON" -m pytest --nbval notebooks --nbval-current-env --nbval-cell-timeout 120 \
        --nbval-sanitize-with tests/nbval_sanitize.cfg -n 2 --dist loadscope -q --durations=5
}

part_hygiene() { "$PYTHON" -m pytest tests/notebooks -n 2 -q --durations=5; } # each lesson is run once more

part_browser() {
    local found
    found=$(find_browser) && export CHROMIUM=$found
    "$PYTHON" -m pytest tests/e2e -q -rs --durations=5
}

part_nosimd() { ATEN_CPU_CAPABILITY=default part_nbval; }

part_rebuild() { "$PYTHON" notebooks/build.py --check; } # builds every lesson again, writes nothing

part_offline() { # every connection but loopback raises (tests/offline), in the kernels too
    local PYTHONPATH="$PWD/tests/offline${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
    "$PYTHON" -c 'import socket; socket.create_connection(("192.0.2.1", 80), 2)' 2>&1 | grep -q 'offline test' || {
        echo "the guard in tests/offline does not bite"
        return 1
    }
    part_unit && part_nbval
}

one_in_turn() { # each commit runs one of the three long parts
    local turns=(nosimd rebuild offline)
    echo "${turns[$(($(git rev-list --count HEAD 2>/dev/null || date +%-j) % 3))]}"
}

check() {
    local part word start failed=0 total=0 rows=""
    JUPYTER_ROOM=$(mktemp -d) # nobody's own kernels, settings or start-up files take part
    trap 'rm -rf "$JUPYTER_ROOM"' EXIT
    export IPYTHONDIR=$JUPYTER_ROOM/ipython JUPYTER_CONFIG_DIR=$JUPYTER_ROOM/config JUPYTER_DATA_DIR=$JUPYTER_ROOM/data
    for part in "$@"; do
        [ "$part" = in-turn ] && part=$(one_in_turn)
        printf '\n===== %s\n' "$part"
        start=$SECONDS total=$((total + 1)) word=passed
        ("part_$part") </dev/null || { word=FAILED && failed=$((failed + 1)); }
        printf -v rows '%s%-9s %-7s %4d s\n' "$rows" "$part" "$word" $((SECONDS - start))
        [ "$part $word" = "install FAILED" ] && break
    done
    printf '\n===== summary\n%sall %18d s\nparts: %d passed, %d failed\n' "$rows" "$SECONDS" $((total - failed)) $failed
    [ $failed = 0 ]
}

case "${1:-}" in
    setup) setup ;;
    check) shift && check "$@" ;;
    *) stop "usage: tools/course.sh setup | check PART..." ;;
esac
