#!/bin/sh
# The page. Nothing that a visitor sends is looked at; what the node answers is escaped before it is shown.
escape() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'; }
ask() { wget -q -T 5 -O - "http://dstack-guest/$1" || echo "(not available)"; }

# One visit more, by a rename: the number is the name of the only file in a folder. Of all who find the same number one can rename it, and
# the others look again. Nobody holds anything, so who is killed leaves nothing to wait for, and has counted or has not.
count_visit() {
  visits=
  tries=0
  while [ "$tries" -lt 60 ]; do
    tries=$((tries + 1))
    find_visits
    if [ -z "$visits" ]; then
      begin_to_count
    elif mv -T "$VISITS/$visits" "$VISITS/$((visits + 1))"; then
      visits=$((visits + 1))
      return
    elif [ -e "$VISITS/$visits" ]; then
      return # The disk refuses: it was no other visitor.
    else
      wait_apart
    fi
  done
} 2>/dev/null
# The newest number, in `visits`; nothing where there is none, as before the first visit.
find_visits() {
  visits=
  for file in "$VISITS"/*; do
    number=${file##*/}
    case $number in 0?* | *[!0-9]* | ????????????????*) continue ;; esac
    [ "$number" -le "${visits:--1}" ] || visits=$number
  done
}
# A folder comes into its place with the file in it, and into no place where another has one.
begin_to_count() {
  mkdir "$VISITS.$$" && : > "$VISITS.$$/0" && mv -T "$VISITS.$$" "$VISITS" || rm -rf "$VISITS.$$"
}
# Longer for each time that others were faster, up to a second, and not as long as they.
wait_apart() {
  longest=$((tries < 7 ? 8 << tries : 1000))
  milliseconds=$(((($$ * 7919 + tries * 3571) % 1009) * longest / 1009))
  sleep "$(printf '0.%03d' "$milliseconds")"
}

# A CGI program starts in its own folder.
version=$(cat ../version)
# A fingerprint: the key itself never leaves this container. That of an error would look like a key's.
key=$(ask getkey/greeting)
fingerprint=$key
[ "$key" = "(not available)" ] || fingerprint=$(printf '%s' "$key" | sha256sum | cut -c1-32)
note=$(cat "$DATA/note.txt" 2>/dev/null || echo "no disk: nothing is kept")
VISITS=$DATA/count
visits=
[ -d "$DATA" ] && count_visit

# Header lines end in CR LF: what stands in front of the app takes HTTP by the letter.
printf 'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n'
printf "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'\r\n"
printf 'X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\r\n'
cat <<HTML
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Greeting $version</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
<script type="module" src="/page.js"></script>
<header>
<img src="/icon.svg" alt="" width="44" height="44">
<p class="welcome">Welcome to Dstack with unstoppable TLS!</p>
<h1>Hello from version $version</h1>
<p>This page comes from a container that a contract named, inside a confidential VM that its host can not look into. Its TLS key belongs to the
network, not to a machine: take any node away, and the next one answers with the same key.</p>
</header>
<main>
<section aria-labelledby="h-app">
<h2 id="h-app">This app</h2>
<dl class="tiles">
  <div><dt>Visits</dt><dd><strong id="visits">${visits:-0}</strong> counted on this node’s encrypted disk</dd></div>
  <div><dt>Key of this app</dt><dd>fingerprint <code id="fingerprint">$fingerprint</code>, the same on every node of the network</dd></div>
  <div><dt>On the encrypted disk</dt><dd><code id="note">$(printf '%s' "$note" | escape)</code></dd></div>
</dl>
</section>
<section id="evidence" aria-labelledby="h-evidence" hidden>
<h2 id="h-evidence">Who answers</h2>
<p id="verdict" role="status" data-state="checking">Asking the node …</p>
<ol id="steps" aria-label="What was checked"></ol>
<p><button id="again" type="button">Ask again</button></p>
<dl>
  <dt>Platform that served it</dt><dd><code id="about-platform"></code></dd>
  <dt>Its software (measurement)</dt><dd><code id="about-measurement"></code></dd>
  <dt>Network key</dt><dd><code id="about-networkKey"></code></dd>
  <dt>Contract</dt><dd><code id="about-contract"></code></dd>
  <dt>Epoch</dt><dd><code id="about-epoch"></code></dd>
  <dt>Newest block it knew</dt><dd><code id="about-blockNumber"></code></dd>
</dl>
<h3>Could its host answer in its place?</h3>
<div class="doubt">
<p id="host" role="status" data-state="unsaid"></p>
<ul id="host-advice"></ul>
</div>
<p>The website’s owner gets the DNS records that forbid it, and whether the node sees them, by</p>
<pre class="command" tabindex="0" aria-label="The command for the website’s owner"><code id="dns"></code></pre>
<h3>A page cannot vouch for itself</h3>
<p>What is above was checked by a script that came from the same place as what it checked. It cannot know</p>
<ul id="beyond"></ul>
<p>A program of your own can, if you take contract and chain from somebody you trust, and not from here (and, of a network of simulated platforms, add
<code>--flavour sim</code>):</p>
<pre class="command" tabindex="0" aria-label="The command"><code id="verify"></code></pre>
</section>
<section aria-labelledby="h-node">
<h2 id="h-node">What the node says of itself</h2>
<pre id="info" tabindex="0" aria-labelledby="h-node">$(ask info | escape)</pre>
</section>
<noscript><p>Without its script this page shows no evidence. <code>npx dstack site verify</code> needs no page.</p></noscript>
</main>
</html>
HTML
