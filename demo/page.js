// What the page does. Gradio draws its parts; each calls one of these functions, which ask the server (server.py) and
// return what the parts show. The camera's frames are sent as JPEG, the next one when the last was answered.
const faceLiveNet = (() => {
  const base = location.pathname.replace(/\/?$/, "/");
  const page = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const canvas = document.createElement("canvas");
  const longestSide = 1280; // of a frame, for cameras whose frames are larger
  const find = (id) => document.getElementById(id);
  const pathOf = (file) => file?.path ?? null;
  let words = {}, frameMilliseconds = 100, run = 0, starting = null;

  const card = (name) => words[name] ?? "";
  // Browsers' other names for errors that have a card.
  const sameAs = { SecurityError: "NotAllowedError", OverconstrainedError: "NotFoundError", AbortError: "NotReadableError" };
  const cameraCard = (error) => card(sameAs[error.name] ?? error.name) || card("other");

  // The answer, or the name of what went wrong.
  async function ask(name, body) {
    try {
      const answer = await fetch(`${base}api/${name}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...body, page }),
      });
      if (answer.ok) return await answer.json();
      return { 410: "deleted", 429: "busy", 503: "loading" }[answer.status] ?? "none";
    } catch {
      return "none";
    }
  }

  const photographsOf = (who) => (typeof who === "string" ? { name: who } : { photographs: (who ?? []).map((one) => pathOf(one.image ?? one.video)) });

  function opened(milliseconds, texts) {
    frameMilliseconds = milliseconds;
    words = texts;
    const live = { instruction: "assertive", progress: "off", note: "polite" };
    for (const [id, how] of Object.entries(live)) find(id)?.setAttribute("aria-live", how);
    stayOpen();
  }

  // The server takes the end of this connection for the end of the page.
  function stayOpen() {
    const connection = new EventSource(`${base}api/page?page=${page}`);
    connection.onerror = () => { // the browser does not try again if the server is not ready yet
      if (connection.readyState === EventSource.CLOSED) setTimeout(stayOpen, 2000);
    };
  }

  async function reference(photographs) {
    if (!photographs?.length) return "";
    const answer = await ask("reference", photographsOf(photographs));
    return Array.isArray(answer) ? answer[0] : card(answer);
  }

  async function register(file) {
    if (file) await ask("register", { file: pathOf(file.video ?? file) });
  }

  async function check(name, first, second, expression) {
    const answer = await ask(name, { reference: pathOf(first), probe: pathOf(second?.video ?? second), expression });
    return Array.isArray(answer) ? answer : [card(answer), ""];
  }

  const example = ([first, second, expression]) => [first, second, expression].map((value) =>
    value?.path ? { ...value, url: `${location.origin}${base}gradio_api/file=${value.path}` } : value);

  async function camera() {
    const video = find("camera");
    if (!video.srcObject?.active) {
      if (!navigator.mediaDevices) throw { name: "InsecureContext" };
      const wanted = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 15 } };
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wanted });
      await video.play();
    }
    return video;
  }

  function stop() {
    run++;
    const video = find("camera");
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  }

  // Returns what the token, the instruction, the steps and the note show. A second click during the start does nothing.
  function start(who, token) {
    starting ??= begin(who, token).finally(() => { starting = null; });
    return starting;
  }

  async function begin(who, token) {
    const own = ++run; // ends the loop of the attempt before, whose token is newer here than in the page's parts
    const body = { ...photographsOf(who), token: api.shown[0] || token };
    const given = typeof who === "string" ? who : body.photographs.length;
    if (given) find("instruction").scrollIntoView({ block: "start" });
    let video = null;
    let answer = await ask("start", body);
    if (!Array.isArray(answer)) return ["", card(answer), "", card("")];
    if (answer[0]) {
      try {
        video = await camera();
      } catch (error) {
        await ask("start", { photographs: [], token: answer[0] }); // closes the attempt, so that it is not counted
        return ["", cameraCard(error), "", answer[3]];
      }
      show([answer[0], answer[1], answer[2], "", "", ""]);
      send(video, answer[0], own);
    }
    return answer.map((value, place) => value ?? (place === 3 ? "" : value));
  }

  const picture = (video) => new Promise((done) => {
    const scale = Math.min(1, longestSide / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(scale * video.videoWidth);
    canvas.height = Math.round(scale * video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(done, "image/jpeg", 0.9);
  });

  // Sends frames until the attempt is decided, or another one has begun. The camera is off before a decision is shown.
  async function send(video, token, own) {
    while (own === run) {
      const due = performance.now() + frameMilliseconds;
      try {
        const frame = await picture(video);
        const answer = await fetch(`${base}api/frame`, {
          method: "POST", headers: { "X-Attempt": token }, body: frame, signal: AbortSignal.timeout(10_000),
        });
        if (own !== run) return;
        if (answer.ok) {
          const values = await answer.json();
          token = values[0];
          if (!token) stop();
          show(values);
        }
      } catch {
        await new Promise((done) => setTimeout(done, 500)); // the connection failed: try again with the next frame
      }
      await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
    }
  }

  function show(values) {
    api.shown = values.map((value, place) => value ?? api.shown[place]);
    find("show").click();
  }

  const api = { opened, reference, register, check, example, start, shown: ["", "", "", "", "", ""] };
  return api;
})();
window.faceLiveNet = faceLiveNet;
