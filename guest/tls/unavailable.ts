/** The page for when there is nothing to show: it says why, and that it looks again by itself. */

/** Seconds after which a browser looks again. */
export const WAIT_SECONDS = 5;

export function unavailablePage(reason: string): string {
  return `<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="${WAIT_SECONDS}">
<title>Not available</title>
<style>body{font:16px/1.5 system-ui;max-width:40em;margin:15vh auto;padding:0 1em}code{background:#8882;padding:.1em .3em}</style>
<h1>No app to show</h1>
<p>This node is up, but cannot answer for its app: <code>${escaped(reason)}</code></p>
<p>The page looks again every ${WAIT_SECONDS} seconds.</p>
`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
