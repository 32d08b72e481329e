# How steps run. A script that sources this defines `prepare` for what all steps need and
# `step_NAME` for each step, and then calls `run_steps`.
#
# Three steps run at a time, since most of them wait more than they compute. Each works on
# a copy of its own of what git tracks, with the edits of the working tree, and shows its
# output when it ends. The first one that fails ends the run and the other steps.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
groups=() # the process groups of the steps

# What the caller has set for other programs must not change what is tested.
unset "${!PYTEST_@}" "${!HYPOTHESIS_@}" "${!COVERAGE_@}" "${!MYPY@}" "${!RUFF_@}" \
    PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONWARNINGS VIRTUAL_ENV NODE_PATH
export CI=true PIP_DISABLE_PIP_VERSION_CHECK=1

missing() { # missing PART: notes that the step's part is skipped; fails if it must run
    echo "$step: no $1 here: what needs it is skipped" | tee -a "$work/skipped"
    [ -z "${STRICT:-}" ]
}

tested() { # tested PYTEST...: two tests of a run may fail at first, on a busy machine
    # They run again with all of their files in the same order, so that a test fails
    # again if it depends on another one.
    local status=0 failed
    "$@" 2>&1 | tee "$work/$step.pytest" || status=$?
    sed -n "s/^SKIPPED/$step: &/p" "$work/$step.pytest" >>"$work/skipped"
    [ "$status" = 1 ] || return "$status" # a leak, which the canary finds, is never forgiven
    failed=$(sed -n 's/^ *"\(.*\)": true,*$/\1/p' .pytest_cache/v/cache/lastfailed)
    sed "s/^/$step: /" <<<"$failed" >>"$work/again"
    [ "$(wc -l <"$work/again")" -le 2 ] || return 1
    echo '!!! Failed. Once more, with the rest of the file:'
    "$@" --randomly-seed=last -o testpaths="$(sed 's/::.*//' <<<"$failed" | sort -u | xargs)"
}

start() { # start STEP: in a process of its own, which tells file descriptor 4 of its end
    (
        SECONDS=0
        step=$1
        trap 'echo "$step $? $SECONDS" >&4' EXIT
        [ -n "$alone" ] || exec >"$work/$step.output" 2>&1
        here=$work/$step
        mkdir "$here"
        { git -C "$checkout" ls-files && git -C "$checkout" ls-files --deleted; } |
            sort | uniq -u | tar -C "$checkout" -T - -cf - | tar -C "$here" -xf -
        cd "$here"
        "step_$step"
    ) </dev/null &
    groups+=("$!")
}

run_steps() { # run_steps STEP...
    local step status seconds running=0 alone=
    [ $# -gt 1 ] || alone=yes # then its output is seen as it comes
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    prepare
    mkfifo "$work/ended"
    touch "$work/times"
    exec 4<>"$work/ended"
    set -m # each step is a process group
    while [ $# -gt 0 ] || [ "$running" -gt 0 ]; do
        if [ $# -gt 0 ] && [ "$running" -lt 3 ]; then
            start "$1"
            shift
            running=$((running + 1))
            continue
        fi
        until read -r -t 30 step status seconds <&4; do
            # One that was killed told nothing.
            [ -n "$(jobs -r)" ] || { echo 'a step was killed' >"$work/failed" && exit 1; }
        done
        running=$((running - 1))
        show "$step"
        printf '%-12s %4d s\n' "$step" "$seconds" >>"$work/times"
        [ "$status" = 0 ] || { echo "$step failed" >"$work/failed" && exit 1; }
    done
}

show() { # show STEP: what it has printed
    [ -e "$work/$1.output" ] || return 0
    printf '\n========== %s ==========\n' "$1"
    cat "$work/$1.output"
    rm "$work/$1.output"
}

finish() {
    local status=$? signal group step what='all passed'
    set +eu
    trap - EXIT
    trap '' INT TERM HUP
    for signal in TERM KILL; do
        for group in "${groups[@]}"; do
            kill -"$signal" -- "-$group" 2>/dev/null && sleep 1
        done
    done
    for step in "$work"/*.output; do # of a step that was interrupted
        show "$(basename "$step" .output)"
    done
    [ "$status" = 0 ] || what=$(cat "$work/failed" 2>/dev/null || echo interrupted)
    printf '\n========== %s ==========\n' "$what"
    cat "$work/times"
    printf '%-12s %4d s\n' all "$SECONDS"
    [ ! -s "$work/skipped" ] || { printf '\nSkipped:\n' && sort -u "$work/skipped"; }
    [ ! -e "$work/again" ] || { printf '\nFailed at first:\n' && cat "$work/again"; }
    rm -rf "$work"
    exit "$status"
}
