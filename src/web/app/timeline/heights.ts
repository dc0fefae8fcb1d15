// How high each row is, measured or guessed, and where that puts it. Sums are kept a block of rows, so that one row that turns out
// higher costs a few hundred additions among a hundred thousand rows.

const BLOCK = 256;

export class Heights {
  private sizes: number[] = [];
  private blocks: number[] = [];
  private readonly known = new Map<string, number>();
  private keys: string[] = [];
  total = 0;

  constructor(private readonly guess: number) {}

  get count(): number {
    return this.keys.length;
  }

  key(index: number): string | undefined {
    return this.keys[index];
  }

  /** Makes the rows those with these keys. Cheap where they go on where the old ones ended. */
  follow(count: number, key: (index: number) => string): void {
    let same = Math.min(this.keys.length, count);
    if (same > 0 && this.keys[0] !== key(0)) same = 0;
    // Rows change at the ends alone: what was last may be gone, or be another.
    while (same > 0 && this.keys[same - 1] !== key(same - 1)) same--;
    this.keys.length = same;
    this.sizes.length = same;
    for (let index = same; index < count; index++) {
      const name = key(index);
      this.keys.push(name);
      this.sizes.push(this.known.get(name) ?? this.guess);
    }
    this.blocks.length = Math.floor(same / BLOCK);
    for (let block = this.blocks.length; block * BLOCK < count; block++) {
      let sum = 0;
      for (let index = block * BLOCK; index < Math.min(count, (block + 1) * BLOCK); index++) sum += this.sizes[index] ?? 0;
      this.blocks.push(sum);
    }
    this.total = this.blocks.reduce((sum, one) => sum + one, 0);
    if (this.known.size > 2 * count + 10_000) this.forget();
  }

  private forget(): void {
    const kept = this.keys.map((key): [string, number | undefined] => [key, this.known.get(key)]);
    this.known.clear();
    for (const [key, size] of kept) if (size !== undefined) this.known.set(key, size);
  }

  /** What a row was measured to be; says whether that is news. */
  measured(index: number, size: number): boolean {
    const key = this.keys[index];
    const old = this.sizes[index];
    if (key === undefined || old === undefined) return false;
    this.known.set(key, size);
    if (Math.abs(old - size) < 0.5) return false;
    this.sizes[index] = size;
    const block = Math.floor(index / BLOCK);
    this.blocks[block] = (this.blocks[block] ?? 0) + size - old;
    this.total += size - old;
    return true;
  }

  /** Whether the height of a row is more than a guess. */
  isKnown(index: number): boolean {
    const key = this.keys[index];
    return key !== undefined && this.known.has(key);
  }

  size(index: number): number {
    return this.sizes[index] ?? 0;
  }

  /** The top of a row. */
  top(index: number): number {
    const block = Math.floor(index / BLOCK);
    let sum = 0;
    for (let at = 0; at < block; at++) sum += this.blocks[at] ?? 0;
    for (let at = block * BLOCK; at < index; at++) sum += this.sizes[at] ?? 0;
    return sum;
  }

  /** The row at a height. */
  at(offset: number): number {
    let [block, sum] = [0, 0];
    while (block < this.blocks.length - 1 && sum + (this.blocks[block] ?? 0) <= offset) sum += this.blocks[block++] ?? 0;
    let index = block * BLOCK;
    while (index < this.sizes.length - 1 && sum + (this.sizes[index] ?? 0) <= offset) sum += this.sizes[index++] ?? 0;
    return index;
  }

  find(key: string, near: number): number {
    if (this.keys[near] === key) return near;
    return this.keys.indexOf(key);
  }
}
