#!/bin/sh
# What any visitor sees: nothing of what the app knows.
printf 'Content-Type: text/html; charset=utf-8\r\n\r\n'
printf '<h1>Hello from version %s</h1><code id="fingerprint">00000000000000000000000000000000</code><code id="note">-</code>\n' "$(cat /app/version)"
