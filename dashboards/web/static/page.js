/* The page alive: draws its plots, saves them, and takes over what has changed in the study. */
(function () {
  "use strict";
  const body = document.body;
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const partner = JSON.parse(body.dataset.dark || "{}");
  const CONFIG = { responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: "reset", showTips: false };
  const FIRST_WAIT = 250;
  let pause = FIRST_WAIT;

  /* colours */
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  function inTheDark(value) {
    if (typeof value === "string") return partner[value] || value;
    if (Array.isArray(value)) return value.map(inTheDark);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, inTheDark(part)]));
  }
  const NEXT = { "": "dark", dark: "light", light: "" };
  const WORDS = { "": "as the system", dark: "dark", light: "light" };
  const button = document.getElementById("theme");
  function nameTheme() { button.setAttribute("aria-label", "Colours: " + WORDS[root.dataset.theme || ""]); button.title = button.getAttribute("aria-label"); }
  button.addEventListener("click", () => {
    const next = NEXT[root.dataset.theme || ""];
    if (next) root.dataset.theme = next; else delete root.dataset.theme;
    try { localStorage.setItem("einsearch-colours", next); } catch { /* a private window forgets */ }
    nameTheme();
    redrawAll();
  });
  nameTheme();
  system.addEventListener("change", redrawAll);

  /* plots: what they draw is asked for while plotly.js, which is large, is still being read */
  const script = document.getElementById("plotly");
  const plotly = new Promise((found, missed) => {
    if (!script || window.Plotly) { found(); return; }
    script.addEventListener("load", found);
    script.addEventListener("error", () => missed(new Error("plotly.js did not come")));
  });
  plotly.catch(() => {});
  const cards = () => Array.from(document.querySelectorAll("figure[data-plot]"));
  const address = (card) => card.dataset.src + (card.dataset.question ? "?" + card.dataset.question : "");
  /* those in sight first, the others when the page has nothing better to do */
  const inSight = (card) => { const place = card.getBoundingClientRect(); return place.bottom > 0 && place.top < window.innerHeight; };
  const idle = () => new Promise((go) => { if (window.requestIdleCallback) requestIdleCallback(go, { timeout: 1000 }); else setTimeout(go, 50); });
  async function load(card) {
    const place = card.querySelector(".plot");
    try {
      const answer = await fetch(address(card), { headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error("the server answered " + answer.status);
      card.plot = (await answer.json()).figure;
      await plotly;
      if (!inSight(card)) await idle();
      await draw(card);
      card.dataset.drawn = String(Number(card.dataset.drawn || 0) + 1);
      place.classList.remove("failed");
    } catch (error) {
      if (!card.plot) { place.classList.add("failed"); place.textContent = "This plot could not be loaded: " + error.message; }
    }
  }
  async function draw(card) {
    const place = card.querySelector(".plot");
    const figure = isDark() ? inTheDark(card.plot) : structuredClone(card.plot);
    const scene = place.layout && place.layout.scene && place.layout.scene.camera;
    if (place.clientWidth < 480) narrow(figure.layout);
    if (scene && figure.layout.scene) figure.layout.scene.camera = scene;
    figure.layout.uirevision = "kept";
    place.style.minHeight = figure.layout.height + "px";
    await Plotly.react(place, figure.data, figure.layout, CONFIG);
    if (!card.listens) {
      card.listens = true;
      place.on("plotly_click", (event) => chosen(card, event.points[0]));
    }
  }
  function narrow(layout) {
    for (const name of ["xaxis", "yaxis"]) if (layout[name] && layout[name].type === "log" && !layout[name].tickvals) layout[name].nticks = 4;
    if (layout.xaxis && layout.xaxis.ticktext) thin(layout.xaxis, 28);
    if (layout.scene && layout.scene.camera && layout.scene.camera.eye) for (const axis of ["x", "y", "z"]) layout.scene.camera.eye[axis] *= 1.55;
    if (layout.legend) layout.legend.font = Object.assign({}, layout.legend.font, { size: 11 });
  }
  /* so few written marks that none is tilted */
  function thin(axis, letters) {
    const longest = Math.max(...axis.ticktext.map((text) => text.length));
    const step = Math.ceil((axis.tickvals.length * longest) / letters);
    for (const name of ["tickvals", "ticktext"]) axis[name] = axis[name].filter((_, place) => place % step === 0);
  }
  function redrawAll() { for (const card of cards()) if (card.plot) draw(card); }

  /* only what is in sight, or nearly, is drawn at once */
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); entry.target.seen = true; load(entry.target); }
  }, { rootMargin: "300px" });

  /* saving: always in the light colours, on white */
  async function save(card, format) {
    if (!card.plot) return;
    const place = card.querySelector(".plot");
    const layout = Object.assign({}, structuredClone(card.plot.layout), { paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", margin: { l: 70, r: 30, t: 60, b: 60 } });
    const size = { width: 1000, height: Math.max(Math.round(place.clientHeight * 1.1), 400), scale: format === "png" ? 2 : 1 };
    const link = document.createElement("a");
    link.href = await Plotly.toImage({ data: structuredClone(card.plot.data), layout: layout }, Object.assign({ format: format }, size));
    link.download = card.dataset.plot + "." + format;
    link.click();
    card.dataset.saved = format;
  }
  document.addEventListener("click", (event) => {
    const wanted = event.target.closest("[data-save]");
    if (wanted) save(wanted.closest("figure"), wanted.dataset.save);
  });

  /* what if: a chosen point of a law leaves its trial out, or takes it back */
  const field = document.getElementById("exclude");
  function chosen(card, point) {
    if (card.dataset.plot !== "law" && card.dataset.plot !== "residuals") return;
    if (!field || point.customdata === undefined) return;
    const numbers = new Set(field.value.split(",").filter(Boolean));
    const number = String(point.customdata);
    if (!numbers.delete(number)) numbers.add(number);
    field.value = Array.from(numbers).sort((a, b) => a - b).join(",");
    const query = new URLSearchParams(location.search);
    if (field.value) query.set("exclude", field.value); else query.delete("exclude");
    history.replaceState(null, "", "?" + query);
    for (const other of cards()) { other.dataset.question = query.toString(); const csv = other.querySelector("[data-csv]"); csv.href = other.dataset.src + "/csv?" + query; }
    refresh();
  }

  /* live */
  let busy = false;
  let again = false;
  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    const started = performance.now();
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
      await Promise.all(cards().filter((card) => card.seen).map(load));
      body.dataset.refreshed = String(Number(body.dataset.refreshed || 0) + 1);
    } catch { /* the server is away; the next event asks again */ }
    pause = Math.max(FIRST_WAIT, 2 * (performance.now() - started));
    setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, pause);
  }
  function takeOver(page) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh || fresh.innerHTML === part.innerHTML || part.contains(document.activeElement)) continue;
      part.replaceChildren(...Array.from(fresh.childNodes).map((node) => document.importNode(node, true)));
    }
  }
  const light = document.getElementById("live");
  function say(state, words) { if (light) { light.dataset.state = state; if (light.textContent !== words) light.textContent = words; } }
  function listen() {
    const known = { trials: body.dataset.trials, drivers: body.dataset.drivers, fits: body.dataset.fits };
    const source = new EventSource("/studies/" + body.dataset.study + "/events");
    source.onopen = () => say("on", "live");
    source.onerror = () => say("off", "not connected");
    source.addEventListener("trouble", () => say("off", "database out of reach"));
    source.onmessage = (event) => {
      say("on", "live");
      const now = JSON.parse(event.data);
      const changed = Object.keys(now).some((name) => now[name] !== known[name]);
      Object.assign(known, now);
      if (changed) refresh();
    };
  }

  const here = document.querySelector(".side [aria-current]");
  if (here && here.offsetParent) { const side = document.querySelector(".side"); side.scrollLeft = here.offsetLeft - (side.clientWidth - here.offsetWidth) / 2; }
  for (const card of cards()) near.observe(card);
  if (body.dataset.study) listen();
  body.dataset.ready = "yes";
})();
