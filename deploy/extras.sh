#!/bin/sh
# Writes the manual pages and the shells' completions below a folder, as /usr/share has them:
# `extras.sh FOLDER COMMAND...`, where COMMAND runs cloudpose.
set -eu
to=$1
shift
mkdir -p "$to/man/man1" "$to/bash-completion/completions" "$to/zsh/site-functions" "$to/fish/vendor_completions.d"
"$@" man "$to/man/man1"
"$@" completions bash >"$to/bash-completion/completions/cloudpose"
"$@" completions zsh >"$to/zsh/site-functions/_cloudpose"
"$@" completions fish >"$to/fish/vendor_completions.d/cloudpose.fish"
