// Typed events. A listener that throws hurts neither the others nor the client: its error becomes an uncaught one.

export type Listener<T> = (event: T) => unknown;

export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /** Listens; call the answer to stop. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    let set = this.#listeners.get(name);
    if (!set) this.#listeners.set(name, (set = new Set()));
    // A function of its own, so that the same listener may be added twice and each be taken off by itself.
    const own: Listener<Events[Name]> = (event) => listener(event);
    set.add(own as Listener<never>);
    return () => void set.delete(own as Listener<never>);
  }

  /** @internal Tells the listeners; what they answered. */
  emit<Name extends keyof Events>(name: Name, event: Events[Name]): unknown[] {
    const answers: unknown[] = [];
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        answers.push((listener as Listener<Events[Name]>)(event));
      } catch (error) {
        uncaught(error);
      }
    }
    return answers;
  }
}

export function uncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
