# How steps run; `.ci/run` says which there are. A script that sources this defines a
# function `step_NAME` for each step, and then calls `run_steps`.
#
#   MUST_RUN='lint:node' parts that may not be skipped, each as STEP:PART
#   PYTHON=python3.12    the interpreter to use instead of python3
#
# Each step works on a copy of what git tracks, with the edits of the working tree, and
# is a process group of its own. The group ends with its step, and all end with the run.
# The summary at the end says what was skipped, and which tests depend on chance.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
must_run=${MUST_RUN:-}
step=
groups=
behind=
times=
failed='nothing was run'

# What the caller has set for other programs must not change what is tested. Only where
# pip finds packages, and how it gets there, is the machine's.
for name in $(compgen -e); do
    case $name in
    PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_FIND_LINKS | PIP_TRUSTED_HOST) ;;
    PIP_CONFIG_FILE | PIP_CERT | PIP_CLIENT_CERT | PIP_PROXY | PIP_CACHE_DIR) ;;
    PIP_DEFAULT_TIMEOUT | PIP_TIMEOUT | PIP_RETRIES) ;;
    PIP_* | PYTEST_* | PYTHON?* | HYPOTHESIS_* | COVERAGE_* | MYPY* | RUFF_*) unset "$name" ;;
    esac
done
unset name VIRTUAL_ENV NODE_PATH
export CI=true PIP_DISABLE_PIP_VERSION_CHECK=1

copy() { # copy NAME: a fresh copy of what git tracks, its path in $here
    here=$work/$1
    mkdir "$here"
    local file
    git -C "$checkout" ls-files -z >"$work/$1.files"
    while IFS= read -r -d '' file; do # a tracked file may be deleted, and not committed
        if [ -e "$checkout/$file" ] || [ -L "$checkout/$file" ]; then
            printf '%s\0' "$file"
        fi
    done <"$work/$1.files" | tar -C "$checkout" --null -T - -cf - | tar -C "$here" -xf -
    cd "$here"
}

environment() { # environment NAME: an empty one with a pip that knows groups
    "$python" -m venv "$work/$1"
    "$work/$1/bin/pip" install -q 'pip>=25.1'
    bin=$work/$1/bin
}

missing() { # missing PART: notes that it is skipped; False where it must run
    echo "$step: no $1 here: what needs it is skipped" | tee -a "$work/skipped"
    case " $must_run " in
    *" $step:$1 "*) echo 'MUST_RUN names it.' && return 1 ;;
    esac
}

chance() { # chance COMMAND...: runs pytest; a test that depends on chance is named
    WORK=$work STEP=$step "$python" .ci/chance.py "$@"
}

begin() { # begin COMMAND...: in a process group of its own, its ID in $group
    set -m
    "$@" </dev/null &
    set +m
    group=$!
    groups="$groups $group"
}

end() { # end GROUP: ends what is left of it
    local _
    kill -TERM -- "-$1" 2>/dev/null || return 0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.1
        kill -0 -- "-$1" 2>/dev/null || return 0
    done
    kill -KILL -- "-$1" 2>/dev/null || true
}

one_step() {
    step=$1
    "step_$1"
}

run_behind() { # run_behind STEP...: one after the other, while others run in front
    local name status
    for name in "$@"; do
        status=0
        (one_step "$name") >"$work/$name.txt" 2>&1 &
        wait $! || status=$?
        echo "$status" >"$work/$name.part"
        mv "$work/$name.part" "$work/$name.status"
    done
}

run_steps() { # run_steps STEP...: up to the first that fails; $behind run beside the others
    local name from status back=
    failed='interrupted'
    if [ -n "$behind" ]; then
        begin run_behind $behind
        back=$group
    fi
    for name in "$@"; do
        from=$SECONDS
        printf '\n========== %s ==========\n' "$name"
        status=0
        case " $behind " in
        *" $name "*)
            until [ -e "$work/$name.status" ] || ! kill -0 "$back" 2>/dev/null; do sleep 1; done
            cat "$work/$name.txt"
            status=$(cat "$work/$name.status")
            ;;
        *)
            begin one_step "$name"
            wait "$group" || status=$?
            end "$group"
            ;;
        esac
        times+=$(printf '%-10s %4d s' "$name" $((SECONDS - from)))$'\n'
        if [ "$status" != 0 ]; then
            failed="$name failed"
            exit 1
        fi
    done
    failed=
}

summary() {
    local passed='all passed'
    [ ! -e "$work/chance" ] || passed='passed, but not each test at once: see below'
    printf '\n========== %s ==========\n%s%-10s %4d s\n' \
        "${failed:-$passed}" "$times" all "$SECONDS"
    local untracked
    untracked=$(git -C "$checkout" ls-files --others --exclude-standard) || true
    [ -z "$untracked" ] ||
        printf '\nNot tracked by git, so neither tested nor built:\n%s\n' "$untracked"
    if [ -e "$work/skipped" ]; then
        printf '\nSkipped:\n'
        sort "$work/skipped"
    fi
    if [ -e "$work/chance" ]; then
        printf '\nThese failed, and passed when tried again:\n'
        sort "$work/chance"
    fi
}

finish() {
    local status=$? one
    trap - EXIT
    trap '' INT TERM HUP
    for one in $groups; do end "$one"; done
    summary
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
