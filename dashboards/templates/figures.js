/* Draws the figures of a page, and draws them again when the page turns dark or light. */
(function () {
  "use strict";
  const page = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displayModeBar: false, scrollZoom: false };

  function inTheDark(value) {
    if (typeof value === "string") return page.dark[value] || value;
    if (Array.isArray(value)) return value.map(inTheDark);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, inTheDark(part)]));
  }

  function draw() {
    for (const [name, figure] of Object.entries(page.figures)) {
      const place = document.getElementById("plot-" + name);
      const shown = dark.matches ? inTheDark(figure) : structuredClone(figure);
      if (place) Plotly.react(place, shown.data, shown.layout, config);
    }
  }

  draw();
  dark.addEventListener("change", draw);
  window.addEventListener("beforeprint", function () {
    for (const hidden of document.querySelectorAll("details")) hidden.open = true;
  });
})();
