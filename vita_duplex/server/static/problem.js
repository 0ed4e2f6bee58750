/** Something the person in front of the page can understand and mostly also mend. */
export class Problem extends Error {
  constructor(title, advice = "") {
    super(title);
    this.advice = advice;
  }
}
