/** The script of the greeting page: asks the node that answers here for evidence, checks what a page can check, and says what it cannot. */
import { hexOf } from './bytes.ts';
import { el, fill } from './dom.ts';
import { beyond, check, type Evidence } from './evidence.ts';
import { type HostDoubt, hostDoubt } from './host.ts';

/** More than any evidence has, bytes of JSON. */
const MAX_BYTES = 256 * 1024;

async function ask(nonce: string): Promise<Evidence> {
  const answer = await fetch(`/.well-known/dstack/evidence.json?nonce=${nonce}`, { cache: 'no-store' });
  const text = await answer.text();
  if (answer.status === 429) throw new Error('the node is asked by many just now: try again in a second');
  if (!answer.ok || text.length > MAX_BYTES) throw new Error(`no evidence: HTTP ${answer.status}`);
  const evidence: unknown = JSON.parse(text);
  if (typeof evidence !== 'object' || evidence === null || Array.isArray(evidence))
    throw new Error('what came is no evidence');
  return evidence as Evidence;
}

/** How the certificate stands, by the node's unsigned word; undefined where it does not say. */
async function askStatus(): Promise<unknown> {
  try {
    const answer = await fetch('/.well-known/dstack/site.json', { cache: 'no-store' });
    const text = await answer.text();
    return answer.ok && text.length <= MAX_BYTES ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

async function look(): Promise<void> {
  const button = document.querySelector<HTMLButtonElement>('#again')!;
  button.disabled = true;
  verdict('checking', 'Asking the node …');
  fill('steps');
  showHost({ state: 'unsaid', said: 'Not known: there is no evidence yet.', advice: [] });
  const nonce = hexOf(crypto.getRandomValues(new Uint8Array(32)));
  try {
    const evidence = await ask(nonce);
    const steps = check(evidence, nonce);
    fill(
      'steps',
      ...steps.map(({ name, shows, holds, why }) =>
        el(
          'li',
          { 'data-holds': String(holds) },
          el('strong', {}, holds ? 'holds' : 'WRONG'),
          ` ${name}: ${holds ? shows : why}`,
        ),
      ),
    );
    const holds = steps.every((step) => step.holds);
    showHost(hostDoubt(evidence, holds, holds ? await askStatus() : undefined));
    tell(evidence);
    if (holds) verdict('holds', 'The evidence holds together.');
    else verdict('wrong', 'This evidence is wrong. Do not believe this website.');
  } catch (error) {
    verdict('none', `The evidence could not be had: ${(error as Error).message}`);
  }
  button.disabled = false;
}

function verdict(state: string, text: string): void {
  const place = document.querySelector<HTMLElement>('#verdict')!;
  place.dataset.state = state;
  place.textContent = text;
}

/** Whether the node's host could answer in its place. */
function showHost({ state, said, advice }: HostDoubt): void {
  const place = document.querySelector<HTMLElement>('#host')!;
  place.dataset.state = state;
  place.textContent = said;
  fill('host-advice', ...advice.map((text) => el('li', {}, text)));
}

/** Which node, which network; and the lines that check it for somebody who does not trust this page. */
function tell(evidence: Evidence): void {
  const shown = (name: string) => String(evidence[name] ?? '').slice(0, 200);
  for (const name of ['platform', 'measurement', 'networkKey', 'contract', 'epoch', 'blockNumber'])
    fill(`about-${name}`, shown(name));
  const { contract, chainId } = evidence;
  const isSafe = /^0x[0-9a-fA-F]{40}$/.test(String(contract)) && Number.isSafeInteger(chainId);
  const network = isSafe ? `--network ${contract} --chain-id ${chainId}` : '--network CONTRACT --chain-id ID';
  // A browser takes names with signs in them that mean something to a shell.
  const isPlain = /^[a-z0-9.-]+$/.test(location.hostname);
  fill('verify', `npx dstack site verify ${isPlain ? location.origin : 'URL'} ${network} --rpc URL`);
  fill('dns', `npx dstack site dns ${isPlain ? location.hostname : 'DOMAIN'} ${network} --rpc URL`);
}

fill('beyond', ...beyond.map((text) => el('li', {}, text)));
document.querySelector('#again')!.addEventListener('click', () => void look());
document.querySelector<HTMLElement>('#evidence')!.hidden = false;
void look();
