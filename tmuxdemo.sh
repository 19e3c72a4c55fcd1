#!/usr/bin/env bash
# The demo in four panes: what it says, both relays, the chain, both VM consoles. Needs tmux, which it offers to install.
# Ctrl-C in the first pane ends the network; `tmux kill-session -t dstack` closes the rest.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

case "${1-}" in
  '') ;;
  -h | --help)
    cat <<'HELP'
./tmuxdemo.sh

The demo in four panes of tmux: what it says, both relays, the chain, both VM consoles. What it takes is on the page of
`npm run demo -- --help`. tmux is installed if it is missing.

Ctrl-C in the first pane ends the network, and leaves its last words there; `tmux kill-session -t dstack` closes the rest.
HELP
    exit 0
    ;;
  *)
    echo "tmuxdemo.sh takes no arguments, not $*: ./tmuxdemo.sh --help" >&2
    exit 2
    ;;
esac

if ! command -v tmux >/dev/null; then
  sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  echo 'tmuxdemo.sh: installing with apt: tmux'
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" apt-get install -q -y --no-install-recommends tmux
fi
if tmux has-session -t =dstack 2>/dev/null; then
  echo 'tmuxdemo.sh: a session named dstack runs already: tmux attach -t dstack' >&2
  exit 1
fi

state=.state/demo
# Everything slow is done before there are panes, where it can be read.
node scripts/demo.mjs --set-up-only
# The demo empties its folder when it starts; -F waits for the files to come back. A VM's console is not trusted with this
# terminal: cat -v shows control characters.
follow() { printf 'tail -n +1 -F %s 2>/dev/null | cat -v' "$*"; }
mkdir -p "$state"

# Ctrl-C goes to the pane's shell too: with a trap it stays, and so does what the demo says at its end.
# Panes by their ids: where numbering begins is up to the user's own settings.
demo=$(tmux new-session -d -P -F '#{pane_id}' -s dstack -x 200 -y 50 -n network "trap : INT; node scripts/demo.mjs; exec bash")
relays=$(tmux split-window -P -F '#{pane_id}' -t "$demo" -h "$(follow "$state/relay-a.log" "$state/relay-b.log")")
tmux split-window -t "$demo" -v "$(follow "$state/chain.log")"
tmux split-window -t "$relays" -v "$(follow "$state/a/vm/console.log" "$state/b/vm/console.log")"
tmux select-pane -t "$demo"
# A terminal inside tmux can't attach another one, but switch to it.
if [ -t 1 ]; then
  if [ -n "${TMUX:-}" ]; then exec tmux switch-client -t =dstack; fi
  exec tmux attach -t =dstack
fi
echo 'the demo runs in the tmux session dstack: tmux attach -t dstack'
