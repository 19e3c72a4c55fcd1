/**
 * Which messages this host lacks, who says that it has them, and who is being asked. Each body is asked of one at a time: the
 * next has its turn when that one has not delivered, or takes too long. In memory only: peers say again what they have.
 */

export interface WantsOptions {
  /** Milliseconds after which who was asked is taken not to deliver. */
  askMs: number;
  /** Ids that one source may have open; what it says beyond that is not heard. */
  perSource: number;
  /** Ids that all strangers together may have open: those that the operator chose have their own room. */
  total: number;
  /** Whether the operator chose this source. */
  isChosen(source: string): boolean;
  /** Who was asked for this did not deliver in time. */
  onLate(id: string, source: string): void;
  /** Something can be claimed by this source now. */
  onTurn(source: string): void;
  now?: () => number;
}

interface Want {
  /** In the order of their turns. */
  offers: Set<string>;
  asked?: { source: string; until: number };
  /** A stranger was the first to name it. */
  ofStrangers: boolean;
}

export class Wants {
  readonly #options: WantsOptions;
  readonly #now: () => number;
  /** By id, oldest first. */
  readonly #wants = new Map<string, Want>();
  /** Ids that are being asked for. */
  readonly #asked = new Set<string>();
  /** Open ids by source, in the order in which it named them. */
  readonly #offered = new Map<string, Set<string>>();
  /** Sources that did not deliver lately: others go first. */
  readonly #doubtful = new Set<string>();
  /** Open ids that strangers were the first to name. */
  #strangers = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: WantsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** How many ids a source has open. */
  openOf(source: string): number {
    return this.#offered.get(source)?.size ?? 0;
  }

  get size(): number {
    return this.#wants.size;
  }

  /** A source says that it has a message that is not known here. False when there is no room to hear it. */
  offer(id: string, source: string, canBeAsked = true): boolean {
    const { perSource, total, isChosen } = this.#options;
    const want = this.#wants.get(id);
    if (want?.offers.has(source)) return true;
    const ofStrangers = want === undefined && !isChosen(source);
    if (this.openOf(source) >= perSource || (ofStrangers && this.#strangers >= total)) return false;
    const found = want ?? { offers: new Set(), ofStrangers };
    if (ofStrangers) this.#strangers += 1;
    if (want === undefined) this.#wants.set(id, found);
    found.offers.add(source);
    const own = this.#offered.get(source) ?? new Set();
    this.#offered.set(source, own.add(id));
    if (!canBeAsked) return true;
    if (found.asked === undefined) this.#options.onTurn(source);
    else this.#giveWay(id, found.asked.source, source);
    return true;
  }

  /** Who did not deliver lately is not waited for once one has it too that did. */
  #giveWay(id: string, asked: string, source: string): void {
    if (this.#doubtful.has(asked) && !this.#doubtful.has(source)) this.release(id, asked);
  }

  /** Whether this source, which offered it, has its turn with this id now; it is then being asked. */
  claimOne(id: string, source: string, ms: number = this.#options.askMs): boolean {
    const want = this.#wants.get(id);
    if (want === undefined || !want.offers.has(source)) return false;
    if (want.asked !== undefined) return want.asked.source === source;
    if (this.#doubtful.has(source) && [...want.offers].some((other) => !this.#doubtful.has(other)))
      return false;
    want.asked = { source, until: this.#now() + ms };
    this.#asked.add(id);
    this.#watch();
    return true;
  }

  /**
   * For a source that can't be asked, but sends what it is told to: it has its turn only when nobody else is being asked.
   * @param ms how long it has
   */
  take(id: string, source: string, ms: number): boolean {
    const asked = this.#wants.get(id)?.asked;
    if (asked !== undefined) return asked.source === source;
    return this.offer(id, source, false) && this.claimOne(id, source, ms);
  }

  /** What a source is to be asked for now, in the order in which it named it. */
  claim(source: string, limit: number): string[] {
    const claimed: string[] = [];
    for (const id of this.#offered.get(source) ?? []) {
      if (claimed.length >= limit) break;
      if (this.#wants.get(id)?.asked === undefined && this.claimOne(id, source)) claimed.push(id);
    }
    return claimed;
  }

  isAskedOf(id: string, source: string): boolean {
    return this.#wants.get(id)?.asked?.source === source;
  }

  isOffered(id: string, source: string): boolean {
    return this.#wants.get(id)?.offers.has(source) === true;
  }

  /** The body is there and waits to be judged: whoever delivered it is not late. @param ms how long it may take */
  renew(id: string, source: string, ms: number): void {
    const asked = this.#wants.get(id)?.asked;
    if (asked?.source === source) asked.until = this.#now() + ms + this.#options.askMs;
  }

  has(id: string): boolean {
    return this.#wants.has(id);
  }

  /** It is held, or of no use: nobody needs to be asked. */
  settle(id: string): void {
    const want = this.#wants.get(id);
    if (want === undefined) return;
    if (want.asked !== undefined) this.#doubtful.delete(want.asked.source);
    for (const source of want.offers) this.#forget(id, source);
    this.#asked.delete(id);
    this.#end(id, want);
  }

  /** Not now: it keeps its offer, behind the others'. @param isDoubtful whether others go first from now on */
  release(id: string, source: string, isDoubtful = false): void {
    const want = this.#wants.get(id);
    if (want?.asked?.source !== source) return;
    if (isDoubtful) this.#doubt(source);
    delete want.asked;
    this.#asked.delete(id);
    want.offers.delete(source);
    want.offers.add(source);
    this.#pass(want);
  }

  /** The source does not have it: the next one's turn. */
  fail(id: string, source: string): void {
    const want = this.#wants.get(id);
    if (want === undefined || !want.offers.delete(source)) return;
    this.#forget(id, source);
    this.#doubt(source);
    if (want.asked?.source === source) {
      delete want.asked;
      this.#asked.delete(id);
    }
    if (want.offers.size === 0) this.#end(id, want);
    else if (want.asked === undefined) this.#pass(want);
  }

  /** Nothing that this source said counts any longer. */
  drop(source: string): void {
    for (const id of [...(this.#offered.get(source) ?? [])]) this.fail(id, source);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #pass(want: Want): void {
    for (const source of want.offers) this.#options.onTurn(source);
  }

  #doubt(source: string): void {
    this.#doubtful.add(source);
    if (this.#doubtful.size > MAX_DOUBTFUL) this.#doubtful.delete(this.#doubtful.values().next().value!);
  }

  #end(id: string, { ofStrangers }: Want): void {
    this.#wants.delete(id);
    if (ofStrangers) this.#strangers -= 1;
  }

  #forget(id: string, source: string): void {
    const own = this.#offered.get(source);
    own?.delete(id);
    if (own?.size === 0) this.#offered.delete(source);
  }

  /**
   * Whoever was asked too long ago leaves its turn to the next.
   * @param stood milliseconds for which this process itself did nothing: what has come meanwhile has not been looked at
   */
  #sweep(stood: number): void {
    const now = this.#now();
    if (stood > SWEEP_MS) {
      for (const id of this.#asked) this.#wants.get(id)!.asked!.until += stood;
    }
    for (const id of [...this.#asked]) {
      const asked = this.#wants.get(id)?.asked;
      if (asked === undefined || asked.until > now) continue;
      this.release(id, asked.source, true);
      this.#options.onLate(id, asked.source);
    }
  }

  #watch(): void {
    if (this.#timer !== undefined) return;
    const due = this.#now() + SWEEP_MS;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#sweep(this.#now() - due);
      if (this.#asked.size > 0) this.#watch();
    }, SWEEP_MS);
    this.#timer.unref();
  }
}

const MAX_DOUBTFUL = 1024;
const SWEEP_MS = 250;
