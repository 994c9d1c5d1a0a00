// The games' random numbers: xorshift32 with shifts 13, 17, 5; the same as games/prng.py.

export const LARGEST_SEED = 0xffffffff;

function mixed(word) {
  for (let round = 0; round < 2; round += 1) word = Math.imul(word ^ (word >>> 16), 0x45d9f3b) >>> 0;
  return (word ^ (word >>> 16)) >>> 0;
}

export class Xorshift32 {
  constructor(seed, stream) {
    if (!Number.isInteger(seed) || seed < 0 || seed > LARGEST_SEED) {
      throw new RangeError(`seed ${seed}: give a whole number from 0 to ${LARGEST_SEED}`);
    }
    this.word = mixed((seed ^ Math.imul(stream, 0x9e3779b9)) >>> 0) || 1;
  }

  next() {
    let word = this.word;
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    this.word = word >>> 0;
    return this.word;
  }

  below(limit) {
    return (this.next() >>> 8) % limit;
  }

  shuffled(items) {
    const order = [...items];
    for (let last = order.length - 1; last > 0; last -= 1) {
      const other = this.below(last + 1);
      [order[last], order[other]] = [order[other], order[last]];
    }
    return order;
  }
}
