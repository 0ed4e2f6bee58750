// The words of the page in the language the person chose.

import english from "./words.en.js";
import chinese from "./words.zh.js";

/** @type {Record<string, Record<string, string>>} */
const LANGUAGES = { en: english, zh: chinese };

/** @type {Record<string, string>} */
let words = english;

/** `chosen` is "en" or "zh"; empty: as the browser. Translates what is on the page. */
export function speak(chosen) {
  const language = LANGUAGES[chosen] ? chosen : navigator.language.startsWith("zh") ? "zh" : "en";
  words = LANGUAGES[language];
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  translate(document);
}

/** The words of a key, with `{name}` filled in from `values`. An unknown key is a mistake of ours. */
export function say(key, values = {}) {
  const text = words[key];
  if (text === undefined) throw new Error(`no words for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** What a state token means; "" for those of a model we do not know. */
export const meaning = (state) => words[`state.${state}`] ?? "";

/** Elements say by `data-say` what their text is, by `data-say-title`, `-placeholder`, `-label` their attributes. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of root.querySelectorAll("[data-say-title]")) node.title = say(node.dataset.sayTitle);
  for (const node of root.querySelectorAll("[data-say-placeholder]")) node.placeholder = say(node.dataset.sayPlaceholder);
  for (const node of root.querySelectorAll("[data-say-label]")) node.setAttribute("aria-label", say(node.dataset.sayLabel));
}
