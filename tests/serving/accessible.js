() => {
  // What a screen reader or weak eyes would stumble over; the rules of WCAG 2.2 that can be counted.
  const wrong = [];
  const visible = [...document.body.querySelectorAll("*")].filter((element) => element.checkVisibility());
  const one = (name, selector) => document.querySelectorAll(selector).length === 1 || wrong.push(`not one ${name}`);
  one("h1", "h1");
  one("main", "main");
  one("page header", "body > header");
  one("page footer", "body > footer");
  one("alert", "[role=alert]");
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.querySelector("#summary[aria-live=polite]")) wrong.push("the answer is not spoken");
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  if (new Set(ids).size < ids.length) wrong.push("an id twice");

  const nameOf = (element) =>
    element.getAttribute("aria-label") || element.labels?.[0]?.textContent.trim() || element.textContent.trim();
  for (const element of visible.filter((element) => element.matches("a, button, input, [role=img]"))) {
    if (!nameOf(element)) wrong.push(`no name: ${element.outerHTML}`);
    if (element.tabIndex > 0) wrong.push(`jumps the queue: ${element.outerHTML}`);
    const { width, height } = element.getBoundingClientRect();
    if (element.matches("button") && Math.min(width, height) < 24) wrong.push(`too small: ${element.outerHTML}`);
  }
  for (const element of document.querySelectorAll("section, nav, ul:not([aria-hidden])"))
    if (!element.matches("[aria-label], [aria-labelledby]")) wrong.push(`no name: ${element.id || element.tagName}`);
  for (const image of document.images) if (image.alt === null) wrong.push(`no alt: ${image.src}`);

  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) =>
    [r, g, b]
      .map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4))
      .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  for (const element of visible) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    if (element.closest("label:has(:disabled), .hidden-text, .skip, svg")) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${element.textContent.trim()}`);
  }
  return wrong;
}
