/**
 * The front as it should be, and the way there: certificates, servers and domains go to the running HAProxy over its runtime
 * socket. `apply` looks at what HAProxy has and sends what differs, so that either of the two may have been started again.
 *
 * A key is in a command's payload and in HAProxy's memory, and nowhere else.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { type Static, Type } from 'typebox';
import { DstackError } from '../../lib/protocol/errors.ts';
import { AppName, check, IPv4, Strict } from '../../lib/protocol/schema.ts';
import { certificateList, challengeList, type FrontDescription, mapFile, names } from './front-config.ts';
import { ask, type RuntimeCommand } from './runtime-socket.ts';

/** A host name as certificates and Host headers have it, in lower case (RFC 1123); a certificate's may begin with `*.`. */
const LABEL = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?';
const Domain = Type.String({ pattern: `^(${LABEL}\\.)*${LABEL}$`, maxLength: 253 });
const ServerName = Type.String({ pattern: `^(\\*\\.)?(${LABEL}\\.)*${LABEL}$`, maxLength: 253 });
const Pem = Type.String({ pattern: '^[A-Za-z0-9+/= \\n-]+$', maxLength: 32 * 1024 });

const Certificate = Strict({
  /** PEM: the certificate, and its issuers after it. */
  chain: Pem,
  /** PEM, PKCS #8. */
  key: Pem,
});

export const FrontState = Strict({
  /**
   * Shown for every name that has none of its own, and to clients that say no name. A provisional one is for a front that shows none
   * of this key yet: it takes the place of nothing better, whoever sent that.
   */
  certificate: Strict({ ...Certificate.properties, provisional: Type.Optional(Type.Literal(true)) }),
  /** Others, each for some names (SNI). */
  certificates: Type.Array(
    Strict({
      ...Certificate.properties,
      serverNames: Type.Array(ServerName, { minItems: 1, maxItems: 100 }),
    }),
    { maxItems: 100 },
  ),
  /** Whether tls-alpn-01 may be asked for: it costs every connection a step (front-config.ts). */
  sorting: Type.Boolean(),
  /** Shown for `acme-tls/1` alone; none where there is no sorting. */
  challenges: Type.Array(Strict({ ...Certificate.properties, domain: Domain }), { maxItems: 100 }),
  /** Of the account's key, base64url (RFC 7638); absent: what was told before stays. */
  thumbprint: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{43}$', maxLength: 43 })),
  /** The first is for every domain that is nobody's; the others are known by their domains, in whatever order. */
  sites: Type.Array(
    Strict({
      domains: Type.Array(Domain, { maxItems: 100 }),
      /** Requests wait for an upstream that is about to come. */
      waits: Type.Optional(Type.Literal(true)),
      /** Absent while there is no app: then the driver answers. */
      upstream: Type.Optional(
        Strict({
          app: AppName,
          host: IPv4,
          port: Type.Integer({ minimum: 1, maximum: 65535 }),
          protocol: Type.Union([Type.Literal('http/1.1'), Type.Literal('h2c')]),
        }),
      ),
    }),
    { minItems: 1, maxItems: 64 },
  ),
});
export type FrontState = Static<typeof FrontState>;
type Site = FrontState['sites'][number];
type Upstream = NonNullable<Site['upstream']>;

/** Told of each part that was refused. */
type Refuse = (error: unknown) => unknown;

export type FrontPlace = Pick<FrontDescription, 'control' | 'placeholder' | 'folder' | 'sites'>;

export class Front {
  readonly #place: FrontPlace;
  /** SHA-256 of what was committed last, by file. */
  readonly #sent = new Map<string, string>();

  constructor(place: FrontPlace) {
    this.#place = place;
  }

  /**
   * Makes HAProxy be like `wanted`, and opens it; the first time, that is what lets visitors in.
   * @returns what was changed, in words, without a key
   * @throws DstackError FRONT_STATE for a state that is malformed, FRONT_UNREACHABLE, FRONT_REFUSED, UPSTREAM_OWN
   */
  async apply(wanted: FrontState): Promise<string[]> {
    const state = check(FrontState, wanted, 'FRONT_STATE', 'what the front should be');
    const { sites } = this.#place;
    if (state.sites.length > sites)
      throw new DstackError('FRONT_STATE', `the front has ${sites} sites at most`);
    // What is refused of it must not hold up the rest: an app that moved or left has an address that may be another's by now.
    const changed: string[] = [];
    const refused: unknown[] = [];
    const refuse = (error: unknown): unknown => refused.push(error);
    const attempt = (part: Promise<string[]>): Promise<unknown> =>
      part.then((words) => changed.push(...words), refuse);
    await attempt(this.#sites(state, refuse));
    await attempt(this.#thumbprint(state));
    await attempt(this.#shown(state.certificate));
    await attempt(this.#sorting(state));
    if (refused.length === 0) await attempt(this.#open());
    await attempt(this.#list(certificateList(this.#place), '', state.certificates, refuse));
    await attempt(this.#challenges(state, refuse));
    if (refused.length > 0) throw refused[0];
    return changed;
  }

  #challenges({ challenges }: FrontState, refuse: Refuse): Promise<string[]> {
    const wanted = challenges.map(({ domain, ...one }) => ({ ...one, serverNames: [domain] }));
    return this.#list(challengeList(this.#place), 'challenge-', wanted, refuse);
  }

  /** Makes a list of certificates hold these, besides the placeholder; `prefix` is for the names that they get. */
  async #list(
    list: string,
    prefix: string,
    wanted: FrontState['certificates'],
    refuse: Refuse,
  ): Promise<string[]> {
    const { placeholder, folder } = this.#place;
    const changed: string[] = [];
    const listed = parseList(await this.#ask(`show ssl crt-list ${list}`), placeholder);
    for (const { serverNames, ...one } of wanted) {
      // Named by what it is for: another set of names is another entry.
      const file = `${folder}/${prefix}${serverNames[0]!.replace('*', '_')}.pem`;
      try {
        if (listed.get(file) === undefined && !(await this.#has(file)))
          await this.#tell(`new ssl cert ${file}`);
        changed.push(...(await this.#certificate(file, one)));
        if (listed.get(file) !== serverNames.join(' ')) {
          if (listed.has(file)) await this.#tell(`del ssl crt-list ${list} ${file}`);
          await this.#tell(`add ssl crt-list ${list}`, `${file} ${serverNames.join(' ')}`);
          changed.push(`names of ${file}`);
        }
      } catch (error) {
        refuse(error);
      }
      listed.delete(file);
    }
    for (const file of listed.keys()) {
      await this.#tell(`del ssl crt-list ${list} ${file}`);
      await this.#tell(`del ssl cert ${file}`);
      changed.push(`no ${file}`);
    }
    return changed;
  }

  /** The certificate of all names, which is the one that HAProxy started with. */
  async #shown({ provisional, ...certificate }: FrontState['certificate']): Promise<string[]> {
    const { map, shows } = names.gate;
    const key = keyOf(certificate.chain);
    const present = (await this.#map(map)).get(shows);
    if (provisional && present === key) return [];
    const changed = await this.#certificate(this.#place.placeholder, certificate);
    if (present !== key) await this.#put(map, shows, key, present !== undefined);
    return changed;
  }

  async #has(file: string): Promise<boolean> {
    return (await this.#ask('show ssl cert')).split('\n').includes(file);
  }

  async #certificate(file: string, { chain, key }: Static<typeof Certificate>): Promise<string[]> {
    const wanted = new X509Certificate(chain).fingerprint.replaceAll(':', '');
    const all = createHash('sha256').update(chain).update(key).digest('hex');
    const is = /^SHA1 FingerPrint: (.*)$/m.exec(await this.#ask(`show ssl cert ${file}`))?.[1];
    // HAProxy tells of the first certificate alone.
    if (is === wanted && this.#sent.get(file) === all) return [];
    // There is one transaction for all files: what was begun and not committed is in the way, of whichever it is.
    const pending = /^\*(\S+)$/m.exec(await this.#ask('show ssl cert'))?.[1];
    if (pending !== undefined) await this.#ask(`abort ssl cert ${pending}`);
    await this.#tell(`set ssl cert ${file}`, `${chain.trim()}\n${key.trim()}`);
    await this.#tell(`commit ssl cert ${file}`);
    this.#sent.set(file, all);
    return [`certificate ${file}`];
  }

  /** Servers first: a domain never leads to a place that is still another site's. */
  async #sites({ sites }: FrontState, refuse: Refuse): Promise<string[]> {
    const present = await this.#map(names.domains);
    const { places, left } = placesOf(sites, present, this.#place.sites);
    for (const { domains } of left)
      refuse(new DstackError('FRONT_FULL', `no place is free for ${domains[0]}; it is looked for again`));
    const waiting = new Set(places.flatMap((site, index) => (site?.waits ? [names.site(index)] : [])));
    // Waiting begins before the old server goes, and ends after the new one has come.
    const begun = await this.#wait([...waiting], true);
    const servers = await this.#servers(places, refuse);
    const over = [...(await this.#map(names.waits)).keys()].filter((site) => !waiting.has(site));
    const ended = await this.#wait(over, false);
    return [...begun, ...servers, ...ended, ...(await this.#domains(places, left, present))];
  }

  /** Lets requests for these places wait, or no longer. */
  async #wait(sites: readonly string[], should: boolean): Promise<string[]> {
    const present = await this.#map(names.waits);
    const changing = sites.filter((site) => present.has(site) !== should);
    for (const site of changing) {
      if (should) await this.#put(names.waits, site, 'yes', false);
      else await this.#tell(`del map ${mapFile(this.#place, names.waits)} ${site}`);
    }
    return changing.map((site) => `${site} ${should ? 'waits' : 'goes on'}`);
  }

  async #domains(
    places: readonly (Site | undefined)[],
    left: readonly Site[],
    present: ReadonlyMap<string, string>,
  ): Promise<string[]> {
    const wanted = new Map(
      places.flatMap((site, index) =>
        (site?.domains ?? []).map((one): [string, string] => [one, names.site(index)]),
      ),
    );
    const changed: string[] = [];
    for (const [domain, site] of wanted) {
      if (present.get(domain) === site) continue;
      await this.#put(names.domains, domain, site, present.has(domain));
      changed.push(`${domain} to ${site}`);
    }
    for (const domain of present.keys()) {
      // One that waits for a place stays where it is: there is no app there any more, and it is nobody else's.
      if (wanted.has(domain) || left.some(({ domains }) => domains.includes(domain))) continue;
      await this.#tell(`del map ${mapFile(this.#place, names.domains)} ${domain}`);
      changed.push(`no ${domain}`);
    }
    return changed;
  }

  async #thumbprint({ thumbprint }: FrontState): Promise<string[]> {
    if (thumbprint === undefined) return [];
    const { map, thumbprint: key } = names.acme;
    const present = (await this.#map(map)).get(key);
    if (present === thumbprint) return [];
    await this.#put(map, key, thumbprint, present !== undefined);
    return [`thumbprint ${thumbprint}`];
  }

  async #servers(places: readonly (Site | undefined)[], refuse: Refuse): Promise<string[]> {
    const present = parseServers(await this.#ask('show servers state'));
    const changed: string[] = [];
    for (let index = 0; index < this.#place.sites; index++)
      for (const backend of names.backends(index))
        changed.push(...(await this.#lead(backend, places[index]?.upstream, present, refuse)));
    return changed;
  }

  /**
   * Makes a backend lead to an app's address, or nowhere. The server for a new address is up before that for the old one goes: in
   * between a request gets to either, and both serve, for kubernethes lets go of the old one later (handover.ts).
   */
  async #lead(
    backend: string,
    upstream: Upstream | undefined,
    present: ReadonlyMap<string, string>,
    refuse: Refuse,
  ): Promise<string[]> {
    const addressOf = (server: string) => present.get(`${backend}/${server}`);
    const changed: string[] = [];
    let kept: string | undefined;
    if (upstream !== undefined) {
      const wanted = `${upstream.host}:${upstream.port}`;
      const servers = names.servers[upstream.protocol];
      kept = servers.find((server) => addressOf(server) === wanted);
      // Both are in use only if an earlier attempt broke off.
      const next = servers.find((server) => addressOf(server) === undefined) ?? servers[0];
      try {
        if (kept === undefined) {
          await this.#set(`${backend}/${next}`, upstream, addressOf(next) !== undefined);
          changed.push(`${backend}/${next} at ${wanted}`);
          kept = next;
        }
      } catch (error) {
        refuse(error);
      }
    }
    // Also when the new one was refused: the old address may be another's by now.
    for (const server of Object.values(names.servers).flat()) {
      if (server === kept || addressOf(server) === undefined) continue;
      try {
        await this.#tell(`set server ${backend}/${server} state maint`);
        changed.push(`no ${backend}/${server}`);
      } catch (error) {
        refuse(error);
      }
    }
    return changed;
  }

  async #set(server: string, { host, port }: Upstream, isUsed: boolean): Promise<void> {
    assertForeign(host);
    // No request goes to an address that is half set.
    if (isUsed) await this.#tell(`set server ${server} state maint`);
    await this.#tell(`set server ${server} addr ${host} port ${port}`);
    await this.#tell(`set server ${server} state ready`);
  }

  /** Which of the two frontends listens. Both do in the beginning, behind the gate. */
  async #sorting({ sorting }: FrontState): Promise<string[]> {
    const [listens, rests] = sorting ? [names.sorter, names.visitors] : [names.visitors, names.sorter];
    const paused = parsePaused(await this.#ask('show stat -1 1 -1'));
    // In this order, so that somebody listens all the time.
    if (paused.has(listens)) await this.#tell(`enable frontend ${listens}`);
    if (paused.has(rests)) return [];
    await this.#tell(`disable frontend ${rests}`);
    return [`${listens} instead of ${rests}`];
  }

  async #open(): Promise<string[]> {
    const { map, open } = names.gate;
    if ((await this.#map(map)).get(open) === 'yes') return [];
    await this.#put(map, open, 'yes', false);
    return ['open to visitors'];
  }

  async #map(name: string): Promise<Map<string, string>> {
    return parseMap(await this.#ask(`show map ${mapFile(this.#place, name)}`));
  }

  #put(map: string, key: string, value: string, isThere: boolean): Promise<void> {
    return this.#tell(`${isThere ? 'set' : 'add'} map ${mapFile(this.#place, map)} ${key} ${value}`);
  }

  #ask(line: string): Promise<string> {
    return ask(this.#place.control, { line });
  }

  /** @throws DstackError FRONT_REFUSED when HAProxy says more than that it did it */
  async #tell(line: string, payload?: string): Promise<void> {
    const command: RuntimeCommand = payload === undefined ? { line } : { line, payload };
    const answer = await ask(this.#place.control, command);
    const fine =
      /^$|^(IP|port) changed from|^no need to change|^nothing changed|^New empty certificate store|^Transaction created|Success!$|^Certificate '.*' deleted!?$|^Entry '.*' deleted in crtlist/m;
    if (!fine.test(answer)) {
      throw new DstackError('FRONT_REFUSED', `the front refuses "${line}": ${answer.slice(0, 300)}`);
    }
  }
}

/** Of the first certificate's public key: SHA-256 of its SubjectPublicKeyInfo in DER, hex. */
export const keyOf = (chain: string): string =>
  createHash('sha256')
    .update(new X509Certificate(chain).publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex');

/**
 * Which site gets which of the front's places. One keeps the place that its domains lead to; another gets one that no domain leads to:
 * so no change of one app's touches another's requests.
 */
function placesOf(
  [website, ...others]: readonly Site[],
  present: ReadonlyMap<string, string>,
  count: number,
): { places: (Site | undefined)[]; left: Site[] } {
  const places: (Site | undefined)[] = [website, ...Array.from({ length: count - 1 }, () => undefined)];
  const ledTo = (index: number): string[] =>
    [...present].filter(([, place]) => place === names.site(index)).map(([domain]) => domain);
  const moving = others.filter((site) => {
    const own = places.findIndex((_, index) => {
      const led = index === 0 ? [] : ledTo(index);
      return led.length > 0 && led.every((domain) => site.domains.includes(domain));
    });
    if (own > 0 && places[own] === undefined) places[own] = site;
    return !places.includes(site);
  });
  const left = moving.filter((site) => {
    const free = places.findIndex((taken, index) => taken === undefined && ledTo(index).length === 0);
    if (free > 0) places[free] = site;
    return free < 0;
  });
  return { places, left };
}

/** `show servers state`, version 1: where each server is that may be used. */
function parseServers(text: string): Map<string, string> {
  const [, header = '', ...lines] = text.split('\n');
  const columns = header.replace(/^# /, '').split(' ');
  const rows = lines.map((line) => {
    const values = line.split(' ');
    return (name: string): string => values[columns.indexOf(name)] ?? '';
  });
  const STOPPED = '0';
  return new Map(
    rows
      .filter((of) => of('srv_op_state') !== STOPPED)
      .map((of) => [`${of('be_name')}/${of('srv_name')}`, `${of('srv_addr')}:${of('srv_port')}`]),
  );
}

/** `show stat`, CSV: the frontends that are paused. */
function parsePaused(text: string): Set<string> {
  const [header = '', ...lines] = text.split('\n');
  const columns = header.replace(/^# /, '').split(',');
  const rows = lines.map((line) => line.split(','));
  const of = (name: string) => columns.indexOf(name);
  return new Set(rows.filter((row) => row[of('status')] === 'PAUSED').map((row) => row[of('pxname')]!));
}

/** `show map`: an internal reference, the key, the value. */
function parseMap(text: string): Map<string, string> {
  const lines = text.split('\n').map((line) => line.split(' '));
  return new Map(lines.filter((words) => words.length === 3).map(([, key, value]) => [key!, value!]));
}

/** `show ssl crt-list`: names by file, but for the certificate of all other names. */
function parseList(text: string, placeholder: string): Map<string, string> {
  const lines = text.split('\n').filter((line) => line.startsWith('/'));
  const entries = lines.map((line): [string, string] => {
    const [file = '', ...serverNames] = line.split(' ');
    return [file, serverNames.join(' ')];
  });
  return new Map(entries.filter(([file]) => file !== placeholder));
}

/**
 * Never to an address of the guest: the agent listens there, and it answers by address. Nor to what is no machine's: HAProxy takes
 * 0.0.0.0 for the address that the visitor came to. The packet filter says the same.
 */
function assertForeign(host: string): void {
  const first = Number(host.split('.', 1)[0]);
  if (first === 0 || first >= 224) {
    throw new DstackError('UPSTREAM_OWN', `${host} is no address of a container`);
  }
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  if (own.some(({ address, internal }) => address === host && !internal)) {
    throw new DstackError('UPSTREAM_OWN', `${host} is the node's own address, not a container's`);
  }
}
