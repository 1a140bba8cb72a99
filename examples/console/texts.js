// All that the console says, in each language.  The rule that an error broke,
// its CONSTRAINT, else its SQLSTATE, names its text.
import { en } from './texts.en.js';
import { zh } from './texts.zh.js';

export const LANGUAGES = {
  en: { name: 'English', tag: 'en', texts: en },
  zh: { name: '中文', tag: 'zh-CN', texts: zh },
};
