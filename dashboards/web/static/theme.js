/* Before the page is painted: the colours that this person has chosen. */
(function () {
  "use strict";
  let chosen = null;
  try { chosen = localStorage.getItem("einsearch-colours"); } catch { chosen = null; }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
