/** Something the person in front of the page can understand and mostly also mend; its words are in `words.*.js`. */
export class Problem extends Error {
  /** `key` without "problem."; `detail`, the server's or browser's own words, stands in for the usual advice. */
  constructor(key, detail = "", values = {}) {
    super(key);
    this.key = key;
    this.detail = detail;
    this.values = values;
  }
}
