import { clock } from './format.js';

/**
 * The connection to the relay. A relay that hangs, or a tunnel to it that broke, says nothing: after a silence the page says since when, and
 * asks anew. While the page is hidden it is closed: a browser has few of them, and a relay too. Where there is no room
 * for another stream the state is asked for now and then instead.
 */

const AGAIN_MS = 2_000;
const POLL_MS = 10_000;
/** Signs of life that may be missing, and what a busy machine may need besides. */
const MISSED = 2.5;
const SLACK_MS = 5_000;

/**
 * @param {{
 *   state: (state: import('../state.ts').DashboardState) => void,
 *   patch: (patch: import('../state.ts').Patch) => void,
 *   log: (lines: readonly import('../state.ts').LogLine[]) => void,
 *   live: (state: 'live' | 'connecting' | 'away' | 'slow', text: string) => void,
 * }} on
 */
export function follow(on) {
  /** @type {EventSource | undefined} */
  let source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let watch;
  /** Milliseconds between signs of life, as the relay says. */
  let beat = 15_000;
  let heardAt = Date.now();

  /** Something came: from here on a new silence counts. */
  function heard() {
    heardAt = Date.now();
    expectMore();
  }

  function expectMore() {
    clearTimeout(watch);
    watch = setTimeout(silent, beat * MISSED + SLACK_MS);
  }

  function silent() {
    on.live('away', `silent since ${clock(heardAt)} UTC: what is shown is of then`);
    open();
  }

  function open() {
    close();
    source = new EventSource('events');
    expectMore();
    source.addEventListener('state', ({ data }) => {
      heard();
      on.state(JSON.parse(data));
      on.live('live', 'live');
    });
    source.addEventListener('patch', ({ data }) => {
      heard();
      on.patch(JSON.parse(data));
    });
    source.addEventListener('log', ({ data }) => {
      heard();
      on.log(JSON.parse(data));
    });
    source.addEventListener('beat', ({ data }) => {
      beat = Number(data);
      heard();
    });
    source.addEventListener('error', () => {
      if (source?.readyState === EventSource.CLOSED) void instead();
      else on.live('connecting', 'connecting again');
    });
  }

  function close() {
    clearTimeout(timer);
    clearTimeout(watch);
    source?.close();
    source = undefined;
  }

  /** A refusal ends an EventSource without saying why. */
  async function instead() {
    close();
    try {
      const answer = await fetch('state');
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      on.state(await answer.json());
      on.live('slow', 'too many dashboards are open: asked every 10 s');
      timer = setTimeout(open, POLL_MS);
    } catch {
      on.live('away', 'the relay does not answer');
      timer = setTimeout(open, AGAIN_MS);
    }
  }

  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'hidden') close();
    else if (source === undefined) open();
  });
  open();
}
