#!/bin/sh
# The page. Nothing that a visitor sends is looked at; what the node answers is escaped before it is shown.
escape() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'; }
ask() { wget -q -T 5 -O - "http://dstack-guest/$1" || echo "(not available)"; }

version=$(cat /app/version)
# A fingerprint: the key itself never leaves this container. That of an error would look like a key's.
key=$(ask getkey/greeting)
fingerprint=$key
[ "$key" = "(not available)" ] || fingerprint=$(printf '%s' "$key" | sha256sum | cut -c1-32)
note=$(cat "$DATA/note.txt" 2>/dev/null || echo "no disk: nothing is kept")

# Header lines end in CR LF: what stands in front of the app takes HTTP by the letter.
printf 'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\r\n'
cat <<HTML
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Greeting $version</title>
<style>
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 4rem auto; padding: 0 1rem; color: #1d2733 }
  h1 { font-size: 2.2rem; margin-bottom: .2rem }
  dt { font-weight: 600; margin-top: 1rem } dd { margin: 0; overflow-wrap: anywhere }
  code, pre { font: 14px/1.5 ui-monospace, monospace; background: #f1f4f7; padding: .1rem .3rem; white-space: pre-wrap }
</style>
<h1>Hello from version $version</h1>
<p>This page comes from a container that a contract named, inside a confidential VM that its host can not look into.</p>
<dl>
  <dt>Key of this app</dt><dd>fingerprint <code id="fingerprint">$fingerprint</code>, the same on every node of the network</dd>
  <dt>On the encrypted disk</dt><dd><code id="note">$(printf '%s' "$note" | escape)</code></dd>
  <dt>The node says</dt><dd><pre id="info">$(ask info | escape)</pre></dd>
</dl>
</html>
HTML
