/** Whether an app's rollout serves, as its node says. */
import { printError } from '../../../lib/daemon/terminal.ts';
import { APPS_STATUS_MAX_BYTES, AppsStatusSchema } from '../../../lib/protocol/app-status.ts';
import { nodePaths } from '../../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../../lib/protocol/schema.ts';

const ANSWER_MS = 60_000;

/**
 * Looks once, and tells of each trouble that it did not tell before.
 *
 * @param manifest the hash of the one that was rolled out
 * @param told of troubles, by their text
 * @returns true once it serves
 */
export async function isServing(
  nodeUrl: string,
  { app, manifest, told }: { app: string; manifest: string; told: Set<string> },
): Promise<true | undefined> {
  const reply = await fetch(`${nodeUrl}${nodePaths.apps}`, { signal: AbortSignal.timeout(ANSWER_MS) });
  const { apps } = parseJson(
    AppsStatusSchema,
    await reply.text(),
    'APPS_STATUS',
    'what the node says',
    APPS_STATUS_MAX_BYTES,
  );
  const found = apps.find((one) => one.app === app);
  const hash = manifest.slice(2);
  if (found?.serving === hash) return true;
  const { trouble } = found ?? {};
  if (trouble?.manifest === hash) {
    const lines = [
      `${app}: ${trouble.code}: ${trouble.message}`,
      ...Object.values(trouble.logs ?? {}).flat(),
    ];
    if (!told.has(lines[0]!)) printError(...lines);
    told.add(lines[0]!);
  }
  return undefined;
}
