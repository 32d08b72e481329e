# How steps run. A script that sources this file defines `prepare` for what all steps need
# and `step_NAME` for each step, and then calls `run_steps`.
#
# Three steps run at a time. Each works on a copy of what git tracks, with the edits of the
# working tree, and its output is shown when it ends. The first failure ends the run.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)

# What the caller has set for other programs must not change what is tested.
unset "${!PYTEST_@}" "${!HYPOTHESIS_@}" "${!COVERAGE_@}" "${!MYPY@}" "${!RUFF_@}" \
    PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONWARNINGS VIRTUAL_ENV NODE_PATH
export CI=true PIP_DISABLE_PIP_VERSION_CHECK=1

missing() { # missing PROGRAM: notes that a part of the step is skipped; fails if STRICT
    echo "$step: no $1 here: what needs it is skipped" | tee -a "$work/skipped"
    [ -z "${STRICT:-}" ]
}

tested() { # tested PYTEST...: two tests of a run may fail once, as a busy machine is slow
    local status=0
    "$@" || status=$?
    [ "$status" = 1 ] || return "$status" # the canary's status for a leak is another one
    sed -n "s/^ *\"\(.*\)\": true,*$/$step: \1/p" .pytest_cache/v/cache/lastfailed >>"$work/again"
    [ "$(wc -l <"$work/again")" -le 2 ] && "$@" --last-failed
}

start() { # start STEP: in the background; $work/STEP.ended gets its status and seconds
    (
        step=$1
        SECONDS=0
        trap 'echo "$step $? $SECONDS" >"$work/$step.ended"' EXIT
        [ -n "$alone" ] || exec >"$work/$step.output" 2>&1
        here=$work/$step
        mkdir "$here"
        cd "$checkout"
        { git ls-files && git ls-files --deleted; } | sort | uniq -u |
            tar -cf - -T - | tar -C "$here" -xf -
        cd "$here"
        "step_$step"
    ) </dev/null &
}

run_steps() { # run_steps STEP...
    local all=$# alone=
    [ $# -gt 1 ] || alone=yes # its output is shown as it comes
    trap finish EXIT
    trap 'exit 1' INT TERM HUP
    prepare
    set -m # each step is a process group, which `finish` can end
    until [ $# = 0 ] && [ -z "$(jobs -r)" ]; do
        if [ $# -gt 0 ] && [ "$(jobs -rp | wc -l)" -lt 3 ]; then
            start "$1"
            shift
        else
            sleep 1
            collect
        fi
    done
    collect
    [ "$(wc -l <"$work/seconds")" = "$all" ] # a step that was killed has no line
}

collect() { # shows the steps that have ended; exits if one has failed
    local file step status seconds
    for file in "$work"/*.ended; do
        [ -e "$file" ] || return 0
        read -r step status seconds <"$file"
        rm "$file"
        show "$step"
        printf '%-12s %4d\n' "$step" "$seconds" >>"$work/seconds"
        [ "$status" = 0 ] || { printf '\n!!! %s failed\n' "$step" && exit 1; }
    done
}

show() { # show STEP: what it has printed
    [ -e "$work/$1.output" ] || return 0
    printf '\n========== %s ==========\n' "$1"
    cat "$work/$1.output"
    rm "$work/$1.output"
}

finish() {
    local status=$? signal file
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    for signal in TERM KILL; do
        jobs -rp | sed 's/^/-/' | xargs kill -"$signal" -- 2>/dev/null && sleep 2
    done
    for file in "$work"/*.output; do # of steps that were interrupted
        show "$(basename "$file" .output)"
    done
    for file in again skipped seconds; do
        [ ! -s "$work/$file" ] || { printf '\n%s:\n' "$file" && cat "$work/$file"; }
    done
    printf '%-12s %4d\n' all "$SECONDS"
    rm -rf "$work"
    exit "$status"
}
