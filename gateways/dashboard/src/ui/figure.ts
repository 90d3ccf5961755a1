const NUMBER = new Intl.NumberFormat("en");

/** A number as the rest of the page is written: in English, whatever the browser speaks. */
export function figure(number: number): string {
  return NUMBER.format(number);
}
