/** Manifests in words: what a container is and may do, and how two manifests differ. */
import {
  type ContainerPlan,
  type Manifest,
  plansOf,
  secretsOf,
  signerPartOf,
} from '../../lib/protocol/manifest.ts';

/** All that a manifest has, a line each. */
export const manifestLines = (manifest: Manifest): readonly string[] => [
  ...plansOf(manifest).flatMap(containerLines),
  ...signerLines(manifest),
];

/** What it signs as a validator, with what is left out filled in; nothing where it has no signer. */
function signerLines(manifest: Manifest): readonly string[] {
  const signer = signerPartOf(manifest);
  if (signer === undefined) return [];
  const { disk, acceptHostRollback = false, minimumNodes = 2, chains } = signer;
  return [
    `signer: on the data disk ${disk}, minimumNodes ${minimumNodes}, acceptHostRollback ${acceptHostRollback}`,
    ...chains.map(({ id, protocol, key, afterHeight, signBytes = false }) => {
      const from = key === 'derived' ? 'a key of the network' : keyIn(manifest, key.secret);
      return `signer of chain ${id}: ${protocol}, with ${from}, after height ${afterHeight}, signBytes ${signBytes}`;
    }),
  ];
}

const keyIn = (manifest: Manifest, secret: string): string =>
  `the key in the secret ${secret}, ${secretsOf(manifest).find(({ name }) => name === secret)?.envelope}`;

/** Every field of a container, a line each. Texts are quoted, so that none looks like a field of ours. */
export function containerLines(plan: ContainerPlan): readonly string[] {
  const { name, image, http } = plan;
  const website = http.find(({ domain }) => domain === undefined);
  return [
    `container ${name}: image sha256:${image}${website === undefined ? '' : `, which answers HTTP on port ${website.port}`}`,
    ...[...fieldsOf(plan)]
      .filter(([field]) => field !== 'image' && (field !== 'http' || website === undefined))
      .map(([field, value]) => `  ${field}${field.startsWith('env ') ? '=' : ' '}${value}`),
  ];
}

/**
 * What changes, a line each; empty when nothing does. Compared is what the manifests mean, so a field that is
 * left out equals one that says the default.
 */
export function differences(before: Manifest | undefined, after: Manifest): readonly string[] {
  const [old, new_] = [byName(before), byName(after)];
  return [
    ...[...new_].flatMap(([name, plan]) => {
      const was = old.get(name);
      return was === undefined ? containerLines(plan).map((line) => `+ ${line}`) : changes(name, was, plan);
    }),
    ...[...old.keys()].filter((name) => !new_.has(name)).map((name) => `- container ${name}`),
    ...linesApart(before === undefined ? [] : signerLines(before), signerLines(after)),
  ];
}

function linesApart(before: readonly string[], after: readonly string[]): string[] {
  return [
    ...before.filter((line) => !after.includes(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !before.includes(line)).map((line) => `+ ${line}`),
  ];
}

function changes(name: string, before: ContainerPlan, after: ContainerPlan): string[] {
  const [old, new_] = [fieldsOf(before), fieldsOf(after)];
  const fields = [...new Set([...old.keys(), ...new_.keys()])];
  const lines = fields
    .filter((field) => old.get(field) !== new_.get(field))
    .map((field) => `    ${field}: ${old.get(field) ?? 'none'} -> ${new_.get(field) ?? 'none'}`);
  return lines.length === 0 ? [] : [`~ container ${name}`, ...lines];
}

/** What is set, as text: JSON, with an entry for each environment variable and each secret, which is shown by its envelope's hash. */
function fieldsOf(plan: ContainerPlan): ReadonlyMap<string, string> {
  const { name: _, image, env, http, secrets, ...fields } = plan;
  const website = http.find(({ domain }) => domain === undefined);
  const sites = website === undefined ? http : { port: website.port };
  const entries: [string, unknown][] = [
    ['image', `sha256:${image}`],
    ...(http.length === 0 ? [] : [['http', sites] satisfies [string, unknown]]),
    ...Object.entries(fields),
    ...secrets.map(({ name, envelope }): [string, unknown] => [`secret ${name}`, envelope]),
    ...Object.entries(env).map(([variable, value]): [string, unknown] => [`env ${variable}`, value]),
  ];
  return new Map(
    entries
      .filter(([, value]) => value !== undefined)
      .map(([field, value]) => [field, JSON.stringify(value)]),
  );
}

const byName = (manifest: Manifest | undefined): ReadonlyMap<string, ContainerPlan> =>
  new Map((manifest === undefined ? [] : plansOf(manifest)).map((plan) => [plan.name, plan]));
