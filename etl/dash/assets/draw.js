// Draws the figures: first those that the page came with, before Dash has started, then what Dash asks for.
//
// What takes long is starting plotly.js and Dash. So the words are painted, then plotly.js is started, then each figure in
// sight is drawn and painted by itself, and only then Dash is started; it takes the drawings over as they are.
(function () {
  "use strict";
  const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: "reset+autosize", showTips: false };
  const NARROW_PX = 480;
  const RETRY_MS = [200, 1000, 3000]; // a browser drops what it asks for when a network comes or goes
  const drawings = new Map(); // name: the element that plotly.js draws in, wherever it is
  const places = new Map(); // name: the element of Dash's page
  const asked = new Map(); // name: the figure that is to be there
  const thinned = new Map(); // name: was it drawn for little room
  const layout = document.getElementById("layout");

  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  // A hidden page paints nothing.
  const painted = () => new Promise((done) => (document.hidden ? setTimeout(done) : requestAnimationFrame(() => setTimeout(done))));

  function fetchAhead(src) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "prefetch", href: src }));
  }

  function run(src) {
    return new Promise((done, failed) => {
      document.head.append(Object.assign(document.createElement("script"), { src, onload: done, onerror: failed }));
    });
  }

  async function runStubbornly(src) {
    for (const ms of RETRY_MS) {
      try {
        return await run(src);
      } catch {
        await wait(ms);
      }
    }
    return run(src);
  }

  // On a telephone there is no room for each month's name, each second year, and the word era three times.
  function thinOut(layout) {
    const ticks = layout.xaxis.dtick;
    layout.xaxis.dtick = ticks === "M1" ? "M3" : ticks === 2 ? 5 : ticks === 5 ? 10 : ticks;
    for (const note of layout.annotations) note.text = note.text.replace(/era (\d)/, "$1");
    return layout;
  }

  const isNarrow = (drawing) => drawing.offsetWidth < NARROW_PX;

  function draw(name) {
    const { data, layout } = structuredClone(asked.get(name)); // plotly.js writes into what it gets
    const there = drawings.get(name);
    const drawing = there || Object.assign(document.createElement("div"), { className: "drawing" });
    if (!there) {
      (places.get(name) || document.querySelector(`#first [data-figure="${name}"]`)).append(drawing);
      drawings.set(name, drawing);
    }
    thinned.set(name, isNarrow(drawing));
    const shown = thinned.get(name) ? thinOut(layout) : layout;
    return window.Plotly[there ? "react" : "newPlot"](drawing, data, shown, CONFIG);
  }

  function fit(name) {
    const drawing = drawings.get(name);
    if (!drawing || !drawing._fullLayout || !drawing.offsetWidth) return;
    const { width, height } = drawing._fullLayout;
    if (isNarrow(drawing) !== thinned.get(name)) draw(name);
    if (Math.abs(width - drawing.offsetWidth) > 1 || Math.abs(height - drawing.offsetHeight) > 1) window.Plotly.Plots.resize(drawing).catch(() => {}); // hidden meanwhile
  }

  // Dash's page stands where the first one stood.
  function reveal() {
    const first = document.getElementById("first");
    if (!first) return;
    first.remove();
    document.getElementById("dash").classList.remove("waiting");
  }

  function moveIn(name, place) {
    places.set(name, place);
    const drawing = drawings.get(name);
    if (drawing) place.append(drawing);
    const observer = new ResizeObserver(() => fit(name));
    observer.observe(place);
    reveal();
    return () => observer.disconnect();
  }

  // What Dash says at first is what the page came with.
  function change(name, figure, first) {
    if (first && asked.has(name)) return;
    asked.set(name, figure);
    draw(name);
  }

  function Figure({ id, figure, className }) {
    const { createElement, useLayoutEffect, useRef } = window.React;
    const place = useRef(null);
    const first = useRef(true);
    useLayoutEffect(() => moveIn(id, place.current), [id]);
    useLayoutEffect(() => {
      change(id, figure, first.current);
      first.current = false;
    }, [figure]);
    return createElement("div", { id, className, ref: place });
  }

  function figures(node) {
    if (Array.isArray(node)) return node.flatMap(figures);
    if (!node || !node.props) return [];
    return node.type === "Figure" ? [node.props] : figures(node.props.children);
  }

  const inSight = (name) => {
    const { top, bottom } = document.querySelector(`#first [data-figure="${name}"]`).getBoundingClientRect();
    return top < window.innerHeight && bottom > 0;
  };

  async function drawInTurn(names) {
    for (const name of names) {
      if (!drawings.has(name)) draw(name);
      await painted();
    }
  }

  async function startDash() {
    for (const { src } of scripts) await runStubbornly(src);
    window.renderer = new window.DashRenderer();
  }

  async function start() {
    for (const { id, figure } of figures(JSON.parse(layout.textContent))) asked.set(id, figure);
    for (const element of document.querySelectorAll("#first .controls")) element.inert = true; // until Dash is there
    await painted();
    await runStubbornly(layout.dataset.plotly);
    const [seen, unseen] = [[...asked.keys()].filter(inSight), [...asked.keys()].filter((name) => !inSight(name))];
    const [one, ...others] = seen;
    await drawInTurn(one ? [one] : []);
    for (const { src } of scripts) fetchAhead(src);
    await drawInTurn(others);
    await startDash();
    await drawInTurn(unseen);
  }

  const scripts = [...document.getElementById("scripts").content.querySelectorAll("script[src]")];
  // Dash asks for its layout, which is here already.
  function answer(resource) {
    return String(resource.url || resource).endsWith("/_dash-layout") ? new Response(layout.textContent, { headers: { "Content-Type": "application/json" } }) : null;
  }

  window.lightning = { Figure, answer };
  start();
})();
