#!/bin/sh
# Upload what a job of CI has built: ci_artifacts.sh DIRECTORY
# The secret UPLOAD_MAP of the job holds a URL map; it never becomes a file or an
# argument. The exit code of the last command is the one of the job.
set -eu
osspresigned check map env:UPLOAD_MAP "$1"/* --to examplebucket/artifacts/
osspresigned put "$1"/* examplebucket/artifacts/ --map env:UPLOAD_MAP --json
