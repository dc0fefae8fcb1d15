// Which clients that left messages behind are gone: a tab holds a lock of the browser as long as it lives, so whoever gets that lock is
// alone with what it left. Without locks all count as gone: what two of them send under one id is one message.

/** Fails where there are no locks, and where a page may have none. */
const locked = async <T>(owner: string, ifAvailable: boolean, act: (lock: unknown) => Promise<T>): Promise<T> =>
  navigator.locks.request(`roundtable-outbox-${owner}`, { ifAvailable }, act);

export class Owners {
  /** Whether it can be told who lives. */
  tell = false;
  #release: () => void = () => {};
  readonly #known = new Set<string>();

  /** Says that this one lives, until `end`. */
  begin(owner: string): Promise<void> {
    this.#known.add(owner);
    return new Promise((held) => {
      const hold = () => new Promise<void>((release) => {
        this.#release = release;
        this.tell = true;
        held();
      });
      locked(owner, false, hold).catch(held);
    });
  }

  /** Acts, once, for one that is gone: before this resolves, or, where it still lives, when it is. */
  async whenGone(owner: string, act: () => Promise<void>): Promise<void> {
    if (this.#known.has(owner)) return;
    this.#known.add(owner);
    try {
      const lives = await locked(owner, true, async (lock) => !lock || act());
      if (lives) locked(owner, false, act).catch(() => {});
    } catch {
      await act();
    }
  }

  end(): void {
    this.#release();
  }
}
