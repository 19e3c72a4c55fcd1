/** The page for when there is nothing to show: it says why, and that it looks again by itself. */
import type { ServerResponse } from 'node:http';

/** Seconds after which a browser looks again. */
const AGAIN = 5;

/** Answers with a status and the reason, unless an answer has begun: then it is cut off, so that nobody takes it as whole. */
export function unavailable(
  response: ServerResponse,
  status: 413 | 501 | 502 | 503 | 504,
  reason: string,
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const page = `<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="${AGAIN}">
<title>Not available</title>
<style>body{font:16px/1.5 system-ui;max-width:40em;margin:15vh auto;padding:0 1em}code{background:#8882;padding:.1em .3em}</style>
<h1>No app to show</h1>
<p>This node is up, but cannot answer for its app: <code>${escaped(reason)}</code></p>
<p>The page looks again every ${AGAIN} seconds.</p>
`;
  response.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': Buffer.byteLength(page),
    'retry-after': `${AGAIN}`,
    'cache-control': 'no-store',
    connection: 'close',
  });
  response.end(page);
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
