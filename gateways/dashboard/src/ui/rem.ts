/** How large the browser's text is, against the usual 16 pixels: for what is measured by a script. */
export const TEXT = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
