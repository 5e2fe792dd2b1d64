"use strict";
// Texts of others only ever become text nodes. Every score goes to the server at once, one after the other.

const $ = (id) => document.getElementById(id);
const RATER = "nanoemox-rater";
let rater = null; // name, as the server took it
let criteria = [];
let shown = null; // the reply on the screen
let given = []; // what Undo takes back: {position, reply, criterion, before, score}
let saving = Promise.resolve();
let unsaved = 0;

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The computer that serves this page does not answer. Your earlier scores are saved.");
  }
  const answer = await response.json().catch(() => ({error: `the server answered ${response.status}`}));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function view(name) {
  for (const id of ["start", "rate", "done"]) $(id).hidden = id !== name;
}

function tell(error) {
  $("problem").textContent = error ? error.message : "";
  $("problem").hidden = !error;
}

function attempt(action) {
  return (event) => {
    event?.preventDefault();
    return action(event).then(() => tell(null), tell);
  };
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const title = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

function buildCriteria(scale) {
  for (const {name, question, anchors} of criteria) {
    $("definitions").append(element("dt", title(name)), element("dd", question));
    const field = $("criterion").content.firstElementChild.cloneNode(true);
    field.dataset.name = name;
    field.querySelector("legend").textContent = title(name);
    field.querySelector(".question").textContent = question;
    for (let score = scale[0]; score <= scale[1]; score++) {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, {type: "radio", name, value: score});
      input.addEventListener("change", () => give(name, score));
      label.append(input, element("span", score, "number"));
      field.querySelector(".scale").append(label);
    }
    for (const [score, meaning] of Object.entries(anchors)) {
      const told = element("span", `\u00a0${meaning} `);
      told.prepend(element("b", score));
      field.querySelector(".anchors").append(told);
    }
    for (const part of ["question", "anchors"]) field.querySelector(`.${part}`).id = `${name}-${part}`;
    field.setAttribute("aria-describedby", `${name}-question ${name}-anchors`);
    $("criteria").append(field);
  }
}

async function join(name) {
  const state = await call("/api/raters", {name});
  rater = state.rater;
  sessionStorage.setItem(RATER, rater);
  $("who").textContent = rater;
  given = [];
  await open(state.next, state);
}

async function open(position, state) {
  if (state) showProgress(state);
  if (position >= $("progress").max) {
    $("all").textContent = $("progress").max;
    view("done");
    $("thanks").focus();
    return;
  }
  shown = await call(`/api/replies/${position}?rater=${encodeURIComponent(rater)}`);
  const turns = shown.dialogue.map(({role, text}) => {
    const turn = document.createElement("li");
    if (role) turn.append(element("span", title(role), "role"));
    if (role !== shown.dialogue.at(-1).role) turn.className = "other";
    turn.append(element("p", text));
    turn.dir = "auto";
    return turn;
  });
  $("dialogue").replaceChildren(...turns);
  $("untold").hidden = turns.length > 0;
  $("where").textContent = `Reply ${shown.position + 1} of ${shown.total}`;
  const [number, count] = shown.place;
  $("answer").textContent = count > 1 ? `Reply ${number} of ${count} to this conversation` : "Reply";
  $("reply").textContent = shown.text;
  $("back").disabled = shown.position === 0;
  view("rate");
  showScores();
  $("saved").textContent = "";
  scrollTo(0, 0);
  $("where").focus({preventScroll: true});
}

function showProgress({done, total}) {
  Object.assign($("progress"), {max: total, value: done});
}

const fields = () => [...$("criteria").children];
const firstOpen = () => fields().find((field) => !(field.dataset.name in shown.scores));

function showScores() {
  for (const field of fields()) {
    for (const input of field.querySelectorAll("input")) {
      input.checked = shown.scores[field.dataset.name] === Number(input.value);
    }
    field.toggleAttribute("data-current", field === firstOpen());
  }
  $("next").setAttribute("aria-disabled", String(Boolean(firstOpen())));
  $("undo").disabled = given.length === 0;
}

function give(criterion, score) {
  const {key, position, scores} = shown;
  const before = scores[criterion] ?? null;
  given.push({position, criterion, reply: key, before, score});
  put(criterion, score);
  save(key, criterion, score, before);
}

function put(criterion, score) {
  if (score === null) delete shown.scores[criterion];
  else shown.scores[criterion] = score;
  showScores();
}

// Resolves to what went wrong, if anything; then the score before is shown again.
function save(reply, criterion, score, before) {
  $("saved").textContent = "Saving";
  unsaved += 1;
  const body = {rater, reply, criterion, score};
  saving = saving.then(() => call("/api/scores", body)).then((state) => {
    showProgress(state);
    $("saved").textContent = "Saved";
    tell(null);
  }).catch((error) => {
    $("saved").textContent = "Not saved";
    tell(error);
    given = given.filter((one) => one.reply !== reply || one.criterion !== criterion);
    if (shown.key === reply) put(criterion, before);
    return error;
  }).finally(() => {
    unsaved -= 1;
  });
  return saving;
}

async function next() {
  const missing = firstOpen();
  if (missing) {
    missing.querySelector("input").focus();
    throw new Error(`Rate ${title(missing.dataset.name).toLowerCase()} first.`);
  }
  const failure = await saving;
  if (failure) throw failure;
  await open(shown.position + 1);
}

async function back() {
  if (shown.position > 0) await open(shown.position - 1);
}

async function undo() {
  const last = given.pop();
  if (!last) return;
  const failure = await save(last.reply, last.criterion, last.before, last.score);
  if (failure) throw failure;
  if (shown.key === last.reply) put(last.criterion, last.before);
  else await open(last.position);
}

function leave() {
  sessionStorage.removeItem(RATER);
  rater = null;
  $("name").value = "";
  tell(null);
  view("start");
  $("name").focus();
}

function press(event) {
  const typing = event.target.matches?.("input:not([type=radio])");
  if ($("rate").hidden || !$("keys").checked || typing) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (/^\d$/.test(key)) {
    const field = document.activeElement.closest("fieldset") ?? firstOpen() ?? fields()[0];
    const input = [...field.querySelectorAll("input")].find((one) => one.value === key);
    if (!input) return;
    event.preventDefault();
    give(field.dataset.name, Number(key));
    (field.nextElementSibling?.querySelector("input") ?? $("next")).focus();
  } else if (key === "b") {
    attempt(back)(event);
  } else if (key === "u") {
    attempt(undo)(event);
  } else if (key === "enter" && !event.target.closest("button, input")) {
    attempt(next)(event); // elsewhere the form sends itself
  }
}

async function begin() {
  const answer = await call("/api/criteria");
  criteria = answer.criteria;
  buildCriteria(answer.scale);
  const known = sessionStorage.getItem(RATER);
  if (known) await join(known);
  else leave();
}

$("join").addEventListener("submit", attempt(() => join($("name").value)));
$("scores").addEventListener("submit", attempt(next));
$("back").addEventListener("click", attempt(back));
$("undo").addEventListener("click", attempt(undo));
$("again").addEventListener("click", attempt(() => open($("progress").max - 1)));
$("leave").addEventListener("click", leave);
$("other").addEventListener("click", leave);
document.addEventListener("keydown", press);
addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
attempt(begin)();
