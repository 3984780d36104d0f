// The page's own behaviour: its address is its state, figures become images, and it notices when data or server change.
(function () {
  "use strict";
  const CHOICES = ["year", "month", "day", "scale"];
  const DEFAULTS = { year: 2016, month: 7, day: 7, scale: "linear" };
  const LIMITS = { month: [1, 12], day: [1, 31] };
  const POLL_MS = 3000;
  const PNG_PX = 1000;
  const TITLE_PX = 40;
  const SAME_MOVE_MS = 800; // several steps of one control within this time are one step back
  let lastWrite = 0;
  let lastChoice = "";
  let again = 0;

  // A browser gives up what it has under way when a network comes or goes, loopback too. Dash would not ask again; the
  // questions only read, so they may be asked twice.
  const RETRY_MS = [200, 1000, 3000];
  const plainFetch = window.fetch.bind(window);
  window.fetch = async function (resource, options) {
    const here = window.lightning.answer(resource);
    if (here) return here;
    for (const wait of String(resource.url || resource).includes("/_dash-") ? RETRY_MS : []) {
      try {
        return await plainFetch(resource, options);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        await new Promise((done) => setTimeout(done, wait));
      }
    }
    return plainFetch(resource, options);
  };

  const keep = () => window.dash_clientside.no_update;
  const config = () => JSON.parse(document.getElementById("_dash-config").textContent);

  function whole(text, [first, last], otherwise) {
    if (!/^[0-9]{1,4}$/.test(text || "")) return otherwise;
    const n = Number(text);
    return n >= first && n <= last ? n : otherwise;
  }

  // Dash draws the slider late; until then what the layout said of it holds.
  let slid = { first: 0, last: 0, now: 0 };
  function slider() {
    const thumb = document.querySelector("#year [role=slider]");
    const told = (name) => Number(thumb.getAttribute(`aria-value${name}`));
    if (thumb) slid = { first: told("min"), last: told("max"), now: told("now") };
    return slid;
  }

  // As state.py reads it; a year that there is not is the nearest.
  function readAddress() {
    const { first, last } = slider();
    const query = new URLSearchParams(window.location.search);
    const scale = query.get("scale");
    return {
      year: Math.min(Math.max(whole(query.get("year"), [1900, 2999], DEFAULTS.year), first), last),
      month: whole(query.get("month"), LIMITS.month, DEFAULTS.month),
      day: whole(query.get("day"), LIMITS.day, DEFAULTS.day),
      scale: scale === "log" || scale === "linear" ? scale : DEFAULTS.scale,
    };
  }

  function address(state) {
    const query = new URLSearchParams(CHOICES.map((name) => [name, state[name]]));
    return window.location.pathname + "?" + query;
  }

  // What is not drawn by Dash: the lists, the two buttons and the title.
  function show(state) {
    for (const name of ["month", "day"]) document.getElementById(`${name}-select`).value = state[name];
    for (const button of document.querySelectorAll("[data-scale]")) button.setAttribute("aria-pressed", button.dataset.scale === state.scale);
    const month = document.querySelector(`#month-select option[value="${state.month}"]`).textContent;
    document.title = `Lightning strikes: ${month} ${state.year}`;
  }

  function set(name, value) {
    window.dash_clientside.set_props(name, name === "year" ? { value } : { data: value });
  }

  // Somebody has chosen: the address first, so that it is right whatever Dash is busy with.
  function choose(name, value) {
    remember({ ...readAddress(), year: slider().now, [name]: value });
    set(name, value);
  }

  function goTo(state) {
    for (const name of CHOICES) set(name, state[name]);
    show(state);
  }

  function listen() {
    for (const name of ["month", "day"]) document.getElementById(`${name}-select`).addEventListener("change", (event) => choose(name, Number(event.target.value)));
    for (const button of document.querySelectorAll("[data-scale]")) button.addEventListener("click", () => choose("scale", button.dataset.scale));
  }

  // One question may fail where the next succeeds: what could not be shown is asked for until it can.
  function lacks() {
    const figures = [...document.querySelectorAll(".js-plotly-plot")];
    return document.querySelector("#header .banner:not([hidden])") !== null || figures.some((one) => one.layout.meta === "lacking");
  }

  async function poll() {
    if (document.hidden) return;
    const gone = document.getElementById("gone");
    try {
      const answer = await fetch(config().requests_pathname_prefix + "health", { cache: "no-store", signal: AbortSignal.timeout(10000) });
      const news = await answer.json();
      if (gone && !gone.hidden) {
        gone.hidden = true;
        again += 1; // what was chosen meanwhile was not drawn
      }
      if (!news.problem && lacks()) again += 1;
      tell({ ...news, again });
    } catch {
      if (gone) gone.hidden = false;
    }
  }

  let told = "";
  function tell(news) {
    const text = JSON.stringify(news);
    if (told && text !== told) window.dash_clientside.set_props("news", { data: news });
    told = text;
  }

  // Radix's thumb has a role but no name.
  function nameThumb() {
    for (const thumb of document.querySelectorAll("#year [role=slider]")) thumb.setAttribute("aria-label", "Year");
    for (const input of document.querySelectorAll("#year input")) input.setAttribute("aria-label", "Year");
  }

  function start(_, first, last, now) {
    slid = { first, last, now };
    new MutationObserver(nameThumb).observe(document.querySelector("#dash .controls"), { childList: true, subtree: true });
    nameThumb();
    window.addEventListener("popstate", () => goTo(readAddress()));
    setInterval(poll, POLL_MS);
    document.addEventListener("visibilitychange", poll);
    poll();
    listen();
    show(readAddress()); // the title; and a browser may have kept in a list what was chosen before a reload
    document.documentElement.dataset.ready = "true"; // for whoever waits until the controls answer
    return keep();
  }

  function remember(state) {
    const choice = CHOICES.find((name) => state[name] !== readAddress()[name]);
    if (!choice) return;
    const now = Date.now();
    const same = choice === lastChoice && now - lastWrite < SAME_MOVE_MS;
    window.history[same ? "replaceState" : "pushState"](null, "", address(state));
    lastChoice = choice;
    lastWrite = now;
    show(state);
  }

  // The slider is Dash's own.
  function write(year) {
    remember({ ...readAddress(), year });
    return keep();
  }

  // What stands beside a figure and not in it, as an image travels alone.
  function beside(name, graph) {
    const badge = document.querySelector(".badge");
    const told = !badge || graph.layout.annotations.some((note) => note.text === "synthetic data") ? "" : ` (${badge.textContent})`;
    const colours = [...document.querySelectorAll(`#${name}-panel .legend > span`)].map(
      (one) => `  <span style="color:${one.firstElementChild.style.background}">■</span> <span style="font-size:11px">${one.textContent}</span>`,
    );
    return told + colours.join("");
  }

  function png() {
    const pressed = window.dash_clientside.callback_context.triggered_id;
    if (!pressed) return keep();
    const name = pressed.replace(/-png$/, "");
    const graph = document.querySelector(`#${name} .js-plotly-plot`);
    const heading = document.getElementById(`${name}-heading`).textContent;
    const layout = { ...graph.layout, title: { text: `Lightning strikes. ${heading}${beside(name, graph)}`, x: 0.01, font: { size: 15 } } };
    layout.margin = { ...layout.margin, t: layout.margin.t + TITLE_PX };
    const { width, height } = graph.getBoundingClientRect(); // as it is seen, with what was zoomed
    const size = { width: PNG_PX, height: Math.round(Math.max(1, PNG_PX / width) * height) + TITLE_PX };
    const filename = "lightning-" + heading.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    window.Plotly.downloadImage({ data: graph.data, layout }, { format: "png", ...size, scale: 2, filename });
    return keep();
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, { lightning: { start, write, png } });
})();
