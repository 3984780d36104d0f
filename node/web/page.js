const live = document.getElementById("live"), main = document.getElementById("main");
const source = new EventSource("/events");
source.onmessage = (e) => {
  const at = document.activeElement && document.activeElement.getAttribute("aria-labelledby");
  main.innerHTML = JSON.parse(e.data);
  if (at) { const again = main.querySelector('[tabindex][aria-labelledby="' + at + '"]'); if (again) again.focus(); }
  live.textContent = "live";
};
source.onerror = () => { live.textContent = "not live: the node does not answer; what is shown may be old"; };
