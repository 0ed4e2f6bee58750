// Language and colours of a page, as the person chose them.

import { speak } from "./words.js";

export function appear({ language, theme }) {
  speak(language);
  document.documentElement.dataset.theme = theme;
}
