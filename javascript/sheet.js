// The sheet of an audition: previews come one by one, the chosen one is shown large, and from there one goes on to its
// variants, to a part of it, or back. What was seen is kept in the page's memory. Loaded after noiseorder.js, by a WebUI
// and by the playground's page; no event of Gradio's has a part in it.
(function() {
    "use strict";
    const {PANELS, number, put, make, generates} = window.noiseorder;
    const LINKS = {subtle: "1.2 v0", strong: "2 v0"}; // the erasure that is added to the chain
    const SIDES = ["left", "top", "right", "bottom"];
    const [SMALLEST, LONG] = [5, 20]; // percent of a part's side; cells beyond which the grid scrolls inside
    const [WAITING, CLICK] = ["Waiting for the first preview", "Click a preview to choose it"];
    const MAKES = "is chosen: Generate makes its whole image";
    const WRITES = ["variant", "chain"]; // the controls that choosing writes, besides the seed

    // By panel. sheets: those one has come through; here: the one that is shown; open: whether its choice is shown
    // large; part: the box that is drawn on it, in percent, null while none is; run: the audition under way; written: what
    // choosing has left in the controls.
    const walks = {};
    const walk = ({ours}) => walks[ours] ??= {sheets: [], here: 0, open: false, part: null, run: null, written: ""};
    const sheetOf = (panel) => walk(panel).sheets[walk(panel).here];

    function chosenOf(panel) {
        const sheet = sheetOf(panel);
        return sheet && walk(panel).open ? sheet.previews[sheet.chosen] : undefined;
    }

    const within = ({ours}, name) => document.querySelector(`#${ours}sheet .noiseorder-${name}`);
    const field = (id) => document.querySelector(`#${id} textarea, #${id} input:not([type=range]):not([type=radio])`);
    const button = ({ours, tab}) => document.getElementById(tab ? `${ours}audition_button` : "audition");

    const set = (element, attributes) => {
        for (const key in attributes) element.setAttribute(key, attributes[key]);
    };
    const show = (element, text) => {
        if (element && element.textContent !== text) element.textContent = text;
    };
    const say = (panel, text) => show(within(panel, "told"), text);

    // Settings as the controls have them, by API key.
    function read({ours}) {
        const settings = {}, {variant, chain} = Object.fromEntries(WRITES.map((name) => [name, field(ours + name)?.value]));
        if (variant) settings.variant = Number(variant);
        if (chain !== undefined) settings.chain = chain;
        return settings;
    }

    function write(panel, settings, seed) {
        const {ours, tab} = panel;
        for (const name of WRITES) {
            const at = `#${ours}${name}`;
            if (name in settings) put(`${at} textarea, ${at} input:not([type=range])`, settings[name]);
        }
        // One drawn at random. With --use-textbox-seed the field takes text.
        if (seed !== null) put(`#${tab}seed input, #${tab}seed textarea`, seed);
        walk(panel).written = JSON.stringify(read(panel));
    }

    // Another audition is not one of what was chosen in the last: that is Vary. What the user wrote since stays.
    function startOver(panel) {
        const {sheets, written} = walk(panel);
        if (sheets.length && written === JSON.stringify(read(panel))) write(panel, sheets[0].base, null);
    }

    // What the previews depend on, besides what choosing writes. The last two are the playground's.
    const MADE_WITH = [
        "prompt", "neg_prompt", "width", "height", "sampling", "scheduler", "steps", "cfg_scale", "distilled_cfg_scale",
        "negative", "count",
    ];
    function madeWith({ours, tab}) {
        const fields = Object.fromEntries(MADE_WITH.map((name) => [name, field(tab + name)]));
        for (const name of ["erase", "inject"]) fields[name] = field(ours + name);
        if (tab === "img2img_") fields.strength = field("img2img_denoising_strength");
        fields.checkpoint = document.querySelector("#setting_sd_model_checkpoint input");
        if (!tab) fields.model = document.querySelector("#model input:checked");
        const values = {};
        for (const name in fields) {
            // A WebUI writes the hash behind the name of a checkpoint once it knows it.
            if (fields[name]) values[name] = fields[name].value.trim().replace(/ \[[0-9a-f]{6,}\]$/, "");
        }
        return values;
    }

    const seedField = ({tab}) => field(`${tab}seed`)?.value;

    function isStale(panel, sheet) {
        if (sheet.seed === null) return false;
        const now = madeWith(panel), seed = seedField(panel);
        const images = number(`${panel.tab}batch_size`) * number(`${panel.tab}batch_count`); // NaN in the playground
        return Object.keys(now).some((name) => name in sheet.made && now[name] !== sheet.made[name]) ||
            (seed !== undefined && ![sheet.asked, sheet.seed].includes(seed)) ||
            images < (sheet.image === null ? sheet.images : sheet.image + 1);
    }

    // ---- An audition, from the press to its end

    // base: the settings that all its previews share, by API key; asked: the seed in the control, seed: the one it was,
    // that of the image `first` of the batch; image: which one of the batch it is of, counted from there, null is all.
    function newSheet(panel, kind = "variant", base = read(panel), was = null, of = {}) {
        // Who knows the name is shown the sheet.
        const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
        return {
            id: bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(""), kind, base, made: madeWith(panel),
            asked: seedField(panel) ?? "", seed: null, first: 0, image: null, images: 1, told: "", ...of,
            candidates: number(`${panel.ours}audition_candidates`) || 0,
            previews: was ? [was] : [], chosen: was ? 0 : null,
        };
    }

    // have: previews that are shown; idle: how often nothing was going on; before: where one comes back to if nothing is
    // made.
    function begin(panel, sheet, others = {}) {
        const now = walk(panel), {sheets, here, open} = now;
        const kept = sheet.kind === "variant" ? [] : sheets.slice(0, here + 1);
        now.run = {sheet, have: 0, idle: 0, begun: false, resumed: false, before: {sheets, here, open}, ...others};
        Object.assign(now, {sheets: [...kept, sheet], here: kept.length, open: sheet.chosen !== null, part: null});
        button(panel)?.setAttribute("aria-disabled", "true");
        draw(panel);
        return now.run;
    }

    // A ticket into the hidden component, then the tab's own Generate button: queue, progress bar, interruption and
    // gallery are the host's. The server takes a ticket once, whatever happens to the component afterwards. Gradio 4
    // queues a second press, and with a used ticket that makes whole images: so one at a time.
    function audition(panel, ...kind) {
        const {ours, tab} = panel;
        if (walk(panel).run) return;
        if (tab && generates(tab)) {
            say(panel, "This tab is generating: press Audition when it has ended");
            return;
        }
        const ticket = field(`${ours}audition_ticket`), press = document.getElementById(tab ? `${tab}generate` : "audition");
        if (!ticket || !press) {
            say(panel, "This page is not complete yet: press Audition once more");
            return;
        }
        if (!kind.length) startOver(panel);
        const sheet = newSheet(panel, ...kind), run = begin(panel, sheet);
        const request = JSON.stringify({
            id: sheet.id, candidates: number(`${ours}audition_candidates`), depth: number(`${ours}audition_depth`),
            ...(sheet.kind === "variant" ? {} : {settings: sheet.base, image: sheet.image}),
        });
        ask(panel, request);
        remember(panel, walk(panel).sheets);
        say(panel, WAITING);
        setTimeout(() => {
            // A press of Generate in between has taken the ticket with it.
            if (!tab || !generates(tab)) {
                ask(panel, request); // an answer of the server may have put the component back
                run.presses = true;
                press.click();
                run.presses = false;
            }
            if (tab) follow(panel, run);
        }, 200);
    }

    function ask({ours}, request) {
        put(`#${ours}audition_ticket textarea, #${ours}audition_ticket input`, request);
    }

    async function previewsOf({id}, have = 0) {
        try {
            const answer = await fetch(`noiseorder/v1/audition/sheet/${id}?have=${have}`);
            if (answer.ok) return await answer.json();
        } catch (error) { /* the server is not reached: as if it told nothing */ }
        return {};
    }

    // Until the server says that the sheet is done, or nothing is going on any more. The buttons tell what this page has
    // begun, the server (`busy`) what goes on without them: after loading anew, or after they are hidden too early.
    async function follow(panel, run) {
        const told = await previewsOf(run.sheet, run.have);
        if (told.begun) {
            // Gradio reads the ticket when it comes to the press, which on a busy machine is late: it stays till then.
            if (!run.begun) ask(panel, "");
            run.begun = true;
            receive(panel, run, told);
        }
        const goes = generates(panel.tab) || (told.busy && (run.begun || run.resumed));
        run.idle = goes ? 0 : run.idle + 1;
        if (told.begun && told.done) return end(panel, run);
        if (run.idle < (run.resumed ? 3 : 40)) return setTimeout(() => follow(panel, run), 300);
        if (run.begun) end(panel, run, "The generation ended early");
        else end(panel, run, run.resumed ? "" : "The audition did not begin");
    }

    function receive(panel, run, told) {
        const {sheet} = run;
        for (const preview of told.previews) {
            // Where the first image was skipped, the second one's. A number of JavaScript's is not exact above 2^53.
            if (sheet.image === null && (preview.image === 0 || sheet.seed === null)) {
                Object.assign(sheet, {seed: preview.seed_text, first: preview.image});
            }
            sheet.previews.push(preview);
        }
        run.have += told.previews.length;
        Object.assign(sheet, {
            told: [told.told, ...told.notes].join(". "), images: told.images || 1, candidates: told.candidates,
        });
        if (run.have && ["", WAITING].includes(within(panel, "told").textContent)) say(panel, CLICK);
        draw(panel);
    }

    // Where nothing was made, what was there before is shown again, and why.
    function end(panel, run, reason = "") {
        const now = walk(panel), {sheet} = run;
        ask(panel, "");
        remember(panel, null);
        now.run = null;
        button(panel)?.removeAttribute("aria-disabled");
        if (!run.have) {
            Object.assign(now, run.before, {part: null});
            say(panel, reason || sheet.told);
        } else if (reason) {
            say(panel, reason);
        }
        draw(panel);
    }

    // The page may be loaded anew while an audition is under way: it then asks the server for the pictures of this sheet
    // and of those before. Some browsers keep nothing for a page in a frame.
    function remember({tab}, sheets) {
        const key = `noiseorder_${tab}walk`, bare = (sheet) => ({...sheet, previews: [], was: Boolean(sheet.previews[0]?.was)});
        try {
            if (sheets) sessionStorage.setItem(key, JSON.stringify(sheets.map(bare)));
            else if (sheets === null) sessionStorage.removeItem(key);
            return JSON.parse(sessionStorage.getItem(key));
        } catch (error) {
            return null;
        }
    }

    const resumed = new Set(); // panels that were looked at after loading
    async function resume(panel) {
        if (resumed.has(panel.ours) || !within(panel, "cells")) return;
        resumed.add(panel.ours);
        const now = walk(panel), sheets = panel.tab && !now.run && remember(panel);
        if (!sheets) return;
        const sheet = sheets.pop();
        for (const [k, earlier] of sheets.entries()) {
            const told = await previewsOf(earlier);
            if (!told.begun) sheets.length = 0; // the server has forgotten it
            else earlier.previews = [...cameFrom(sheets[k - 1], earlier), ...told.previews];
        }
        if (now.run) return; // a press meanwhile
        sheet.previews = cameFrom(sheets.at(-1), sheet);
        if (!sheet.previews.length) sheet.chosen = null;
        Object.assign(now, {sheets, here: Math.max(0, sheets.length - 1), open: true});
        follow(panel, begin(panel, sheet, {resumed: true}));
    }

    const cameFrom = (before, {was}) => was && before ? [asItWas(before, before.previews[before.chosen])] : [];

    // ---- The playground: its server answers a press with a whole sheet

    let answered = "", watched = false;
    function arrive(panel) {
        const place = document.getElementById(`${panel.ours}sheet_data`);
        if (place && !watched) {
            watched = true;
            // Gradio may write into the element that is there.
            new MutationObserver(() => arrive(panel)).observe(place, {attributes: true, childList: true, subtree: true});
        }
        const answer = place?.querySelector("[data-sheet]")?.dataset.sheet;
        if (!answer || answer === answered || !within(panel, "cells")) return;
        answered = answer;
        const told = JSON.parse(answer), now = walk(panel);
        // Made when the page opened, or for an example: nothing was pressed.
        const run = now.run ?? begin(panel, newSheet(panel));
        receive(panel, run, told);
        end(panel, run);
    }

    // ---- Where one is

    const whole = (sheet, preview) => ({...sheet.base, ...preview.settings});
    const asItWas = (sheet, preview) => ({...preview, image: -1, was: true, best: false, settings: whole(sheet, preview)});

    function go(panel, here, open) {
        const now = walk(panel), sheet = now.sheets[here];
        Object.assign(now, {here, open: open && sheet.chosen !== null, part: null});
        const preview = chosenOf(panel);
        write(panel, preview ? whole(sheet, preview) : sheet.base, sheet.seed);
        draw(panel);
        say(panel, preview ? `${capital(name(sheet, preview))} ${MAKES}` : CLICK);
    }

    function choose(panel, index) {
        const now = walk(panel), sheet = sheetOf(panel);
        if (sheet.chosen !== index) {
            if (now.run && now.run.sheet !== sheet) {
                say(panel, "An audition of the one chosen here is under way: choose another when it has ended");
                return;
            }
            now.sheets.splice(now.here + 1); // they came from another one
        }
        sheet.chosen = index;
        go(panel, now.here, true);
        reach(within(panel, "cells"), cellOf(panel, index), {preventScroll: true});
        const {top, bottom} = within(panel, "chosen").getBoundingClientRect();
        if (top < 0 || bottom > innerHeight) within(panel, "crumbs").scrollIntoView({block: "start"});
    }

    const name = ({kind}, preview) => preview.was ? "as it was" : `${kind} ${preview.variant}`;
    const nameInBatch = (sheet, preview) =>
        name(sheet, preview) + (sheet.images > 1 ? ` · seed ${preview.seed_text}` : "");
    const capital = (text) => text[0].toUpperCase() + text.slice(1);
    const caption = (sheet, preview) => capital(nameInBatch(sheet, preview));

    // The chain gets one more link, and its variants are auditioned; the one they come from is shown first. Of a batch
    // it is the chosen image alone: seed and settings stay those of the batch, which Generate makes.
    function refine(panel, kind, link) {
        const now = walk(panel), sheet = sheetOf(panel), preview = chosenOf(panel);
        if (!preview || now.run) return;
        const settings = whole(sheet, preview);
        write(panel, settings, sheet.seed);
        const was = isStale(panel, sheet) ? null : asItWas(sheet, preview);
        const of = {seed: sheet.seed, image: sheet.image ?? preview.image - sheet.first};
        audition(panel, kind, {...settings, chain: [settings.chain, link].filter(Boolean).join("; ")}, was, of);
    }

    function generate(panel) {
        const {tab} = panel, sheet = sheetOf(panel);
        if (walk(panel).run || (tab && generates(tab))) {
            say(panel, "This tab is generating: press Generate this when it has ended");
            return;
        }
        write(panel, whole(sheet, chosenOf(panel)), sheet.seed);
        ask(panel, "");
        // Gradio has taken up what was written by then. Of two presses at once the second one finds the tab at work.
        setTimeout(() => {
            if (!tab || !generates(tab)) document.getElementById(`${tab}generate`)?.click();
        }, 200);
    }

    // A tab goes on for a moment when its sheet is whole, to show it in its gallery: a press waits for that, some seconds
    // at most. When another preview is chosen meanwhile, it is forgotten.
    const waits = new Set();
    async function whenFree(panel, act) {
        const {ours, tab} = panel, preview = chosenOf(panel), isChosen = () => chosenOf(panel) === preview;
        if (waits.has(ours)) return;
        waits.add(ours);
        for (let times = 0; times < 20 && tab && generates(tab) && !walk(panel).run && isChosen(); times++) {
            say(panel, "Waiting until this tab is ready");
            await new Promise((goOn) => setTimeout(goOn, 300));
        }
        waits.delete(ours);
        if (isChosen()) act();
    }

    const ACTIONS = {
        generate: (panel) => whenFree(panel, () => generate(panel)),
        subtle: (panel) => whenFree(panel, () => refine(panel, "varied", LINKS.subtle)),
        strong: (panel) => whenFree(panel, () => refine(panel, "varied", LINKS.strong)),
        part: (panel) => {
            const now = walk(panel);
            now.part = now.part ? null : [25, 25, 75, 75];
            draw(panel);
        },
        audition: (panel) => {
            const box = walk(panel).part.map((side) => (side / 100).toFixed(2));
            whenFree(panel, () => refine(panel, "part", `64 v0 @ ${box.join(" ")}`));
        },
        back: (panel) => {
            const {here} = walk(panel), left = sheetOf(panel).chosen;
            go(panel, Math.max(0, here - 1), here > 0);
            if (here === 0) reach(within(panel, "cells"), cellOf(panel, left));
        },
    };

    // ---- A part of the picture

    // A box, left, top, right and bottom in percent, that can be asked for; what was written last stays, if it can.
    function tidy(box, before) {
        const sides = box.map((side, k) => Math.round(Math.min(100, Math.max(0, Number.isFinite(side) ? side : before[k]))));
        for (const [low, high] of [[0, 2], [1, 3]]) {
            if (sides[high] - sides[low] >= SMALLEST) continue;
            if (sides[low] === before[low]) sides[low] = Math.max(0, sides[high] - SMALLEST);
            sides[high] = Math.min(100, sides[low] + SMALLEST);
            sides[low] = sides[high] - SMALLEST;
        }
        return sides;
    }

    function setPart(panel, box) {
        const now = walk(panel);
        now.part = tidy(box, now.part);
        draw(panel);
    }

    function drag(panel, picture) {
        let start = null;
        const at = ({clientX, clientY}) => {
            const {left, top, width, height} = picture.getBoundingClientRect();
            return [100 * (clientX - left) / width, 100 * (clientY - top) / height];
        };
        const box = (event) => {
            const end = at(event), pairs = start.map((value, k) => [value, end[k]].sort((a, b) => a - b));
            setPart(panel, [pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]]);
        };
        picture.addEventListener("pointerdown", (event) => {
            if (!walk(panel).part || event.button) return;
            event.preventDefault();
            picture.setPointerCapture(event.pointerId);
            start = at(event);
        });
        picture.addEventListener("pointermove", (event) => start && box(event));
        picture.addEventListener("pointerup", (event) => {
            if (start) box(event);
            start = null;
        });
        picture.addEventListener("pointercancel", () => start = null);
    }

    // ---- What is shown

    // Built once; what changes is filled in by `draw`, so the keyboard's focus stays where it is.
    function build(panel, large) {
        const picture = make(large, "div", {class: "noiseorder-picture"});
        make(picture, "img", {alt: "", draggable: "false"});
        make(picture, "div", {class: "noiseorder-box", hidden: ""});
        drag(panel, picture);
        make(large, "p", {class: "noiseorder-name"});
        const actions = make(large, "div", {class: "noiseorder-actions"});
        const action = (parent, name, text, title) => make(parent, "button", {type: "button", "data-action": name, title}, text);
        action(actions, "generate", "Generate this", "Make the whole image of this preview");
        action(actions, "subtle", "Vary (subtle)", "Preview variants that keep most of it");
        action(actions, "strong", "Vary (strong)", "Preview variants that keep some of it");
        action(actions, "part", "Change a part", "Draw a box on the picture and preview other noises inside it");
        action(actions, "back", "Back", "To what was shown before");
        const part = make(large, "div", {
            class: "noiseorder-part", role: "group", "aria-label": "Part to change, in percent of the picture", hidden: "",
        });
        make(part, "p", {}, "Draw a box on the picture, or set its sides in percent:");
        for (const side of SIDES) {
            const label = make(part, "label", {}, capital(side));
            make(label, "input", {type: "number", min: 0, max: 100, step: 1, "data-side": side});
        }
        action(part, "audition", "Audition this part", "Preview other noises inside the box; the rest changes less");
    }

    function draw(panel) {
        const cells = within(panel, "cells");
        if (!cells) return;
        const sheet = sheetOf(panel);
        drawCrumbs(panel);
        drawChosen(panel);
        drawCells(panel, cells);
        show(within(panel, "made"), sheet?.told ?? "");
        drawStale(panel);
    }

    // Every noise one has come through: of the first sheet its seed, then what was chosen of each.
    function drawCrumbs(panel) {
        const now = walk(panel), line = within(panel, "crumbs"), stops = [];
        if (now.sheets[0]?.seed) stops.push({here: 0, open: false, text: `seed ${now.sheets[0].seed}`});
        now.sheets.forEach((sheet, here) => {
            const preview = sheet.previews[sheet.chosen];
            const text = preview && !preview.was ? nameInBatch(sheet, preview) : sheet.kind;
            if (preview || here) stops.push({here, open: Boolean(preview), text});
        });
        const current = ({here, open}) => here === now.here && open === now.open;
        const told = JSON.stringify(stops.map((stop) => [stop.text, current(stop)]));
        if (line.dataset.told === told) return;
        line.dataset.told = told;
        const focused = line.contains(document.activeElement);
        line.replaceChildren();
        line.hidden = stops.length < 2;
        for (const stop of stops) {
            const crumb = make(line, "button", {type: "button", "data-here": stop.here, "data-open": stop.open}, stop.text);
            if (!current(stop)) continue;
            crumb.setAttribute("aria-current", "step");
            if (focused) crumb.focus();
        }
    }

    function drawChosen(panel) {
        const now = walk(panel), sheet = sheetOf(panel), preview = chosenOf(panel), large = within(panel, "chosen");
        if (!large.firstChild) build(panel, large);
        large.hidden = !preview;
        if (!preview) return;
        const box = large.querySelector(".noiseorder-box");
        if (large.preview !== preview) {
            large.preview = preview;
            const alt = `${capital(name(sheet, preview))}, seed ${preview.seed_text}`;
            set(large.querySelector("img"), {src: `data:image/png;base64,${preview.picture}`, alt});
        }
        const told = preview.note || sheet.images > 1; // else the line beneath says it all
        show(large.querySelector(".noiseorder-name"), told ? [caption(sheet, preview), preview.note].filter(Boolean).join(": ") : "");
        const part = large.querySelector(".noiseorder-part");
        part.hidden = box.hidden = !now.part;
        large.querySelector(".noiseorder-picture").classList.toggle("noiseorder-draws", Boolean(now.part));
        large.querySelector("[data-action=part]").setAttribute("aria-expanded", Boolean(now.part));
        for (const name of ["subtle", "strong", "audition"]) {
            large.querySelector(`[data-action=${name}]`).setAttribute("aria-disabled", Boolean(now.run));
        }
        if (!now.part) return;
        const [left, top, right, bottom] = now.part;
        Object.assign(box.style, {
            left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`,
        });
        part.querySelectorAll("input").forEach((input, k) => {
            if (Number(input.value) !== now.part[k] || input.value === "") input.value = now.part[k];
        });
    }

    function drawCells(panel, cells) {
        const now = walk(panel), sheet = sheetOf(panel);
        if (cells.sheet !== sheet) {
            cells.replaceChildren();
            cells.sheet = sheet;
        }
        if (!sheet) return;
        const buttons = () => [...cells.querySelectorAll("button")];
        for (let index = buttons().length; index < sheet.previews.length; index++) add(cells, sheet, index);
        const open = now.open ? sheet.chosen : null;
        for (const cell of buttons()) cell.setAttribute("aria-pressed", Number(cell.dataset.index) === open);
        if (!cells.querySelector('button[tabindex="0"]')) {
            const first = cellOf(panel, open) ?? cells.querySelector("button");
            if (first) first.tabIndex = 0;
        }
        cells.classList.toggle("noiseorder-long", buttons().length > LONG);
        const left = now.run?.sheet === sheet && sheet.images * sheet.candidates - now.run.have;
        const waiting = cells.querySelector(".noiseorder-waiting");
        if (left > 0) {
            const place = waiting || make(cells, "div", {class: "noiseorder-waiting"});
            show(place, `${left} still to come`);
        } else {
            waiting?.remove();
        }
    }

    // Image by image, and of each its variants.
    function add(cells, sheet, index) {
        const preview = sheet.previews[index], after = ({image, variant}) => image - preview.image || variant - preview.variant;
        const next = [...cells.children].find(({dataset}) => !dataset.index || after(sheet.previews[dataset.index]) > 0);
        const cell = make(cells, "button", {
            type: "button", class: "noiseorder-cell", "aria-pressed": "false", "data-index": index,
            "data-variant": preview.variant, "data-seed": sheet.seed,
            "aria-label": `Choose ${name(sheet, preview)}, seed ${preview.seed_text}`, tabindex: -1,
        });
        if (next) cells.insertBefore(cell, next);
        if (preview.best) cell.classList.add("noiseorder-best");
        if (preview.title) cell.title = preview.title;
        make(cell, "img", {src: `data:image/png;base64,${preview.picture}`, alt: ""});
        make(cell, "span", {}, caption(sheet, preview));
        if (preview.note) make(cell, "small", {}, preview.note);
    }

    function drawStale(panel) {
        const sheet = sheetOf(panel), stale = Boolean(sheet) && walk(panel).run?.sheet !== sheet && isStale(panel, sheet);
        for (const part of ["cells", "picture"]) within(panel, part).classList.toggle("noiseorder-old", stale);
        show(within(panel, "stale"), stale ? "Made with other settings: press Audition again" : "");
        if (stale && within(panel, "told").textContent.endsWith(MAKES)) say(panel, "");
    }

    // ---- Mouse and keyboard

    const cellOf = (panel, index) => within(panel, "cells").querySelector(`button[data-index="${index}"]`);

    function reach(cells, cell, how) {
        for (const each of cells.querySelectorAll("button")) each.tabIndex = each === cell ? 0 : -1;
        cell?.focus(how);
    }

    function move(event, cells, cell) {
        const all = [...cells.querySelectorAll("button")], at = all.indexOf(cell);
        const columns = all.filter(({offsetTop}) => offsetTop === all[0].offsetTop).length;
        const to = {
            ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0,
            End: all.length - 1,
        }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        if (all[to]) reach(cells, all[to]);
    }

    const panelOf = (target) => PANELS.find(({ours}) => target.closest?.(`#${ours}sheet`));

    document.addEventListener("click", (event) => {
        const {target} = event, pressed = PANELS.find(({ours}) => target.closest?.(`#${ours}audition_button`));
        if (pressed) return audition(pressed);
        const panel = panelOf(target);
        if (!panel) return;
        const cell = target.closest(".noiseorder-cell"), crumb = target.closest(".noiseorder-crumbs button");
        const action = target.closest("[data-action]");
        if (cell) {
            choose(panel, Number(cell.dataset.index));
        } else if (crumb) {
            go(panel, Number(crumb.dataset.here), crumb.dataset.open === "true");
        } else if (action) {
            ACTIONS[action.dataset.action](panel);
            if (!event.detail && walk(panel).part) within(panel, "part").querySelector("input").focus(); // by the keyboard
        }
    });
    // The playground's own button does the same: it is Gradio's when this presses it.
    document.addEventListener("click", (event) => {
        const panel = PANELS.find(({tab}) => !tab);
        if (!event.target.closest?.("#audition") || !within(panel, "cells")) return;
        if (walk(panel).run?.presses) return;
        event.stopImmediatePropagation();
        audition(panel);
    }, true);
    document.addEventListener("keydown", (event) => {
        const cell = event.target.closest?.(".noiseorder-cell");
        if (cell) move(event, cell.closest(".noiseorder-cells"), cell);
    });
    document.addEventListener("change", ({target}) => {
        const panel = target.closest?.(".noiseorder-part") && panelOf(target);
        if (!panel) return;
        const sides = [...within(panel, "part").querySelectorAll("input")];
        setPart(panel, sides.map(({value}) => value.trim() ? Number(value) : NaN));
    });

    // Gradio 6 makes what is folded only when it is opened, and keeps it: what choosing writes to must be there.
    const opened = new WeakSet();
    function unfoldOnce({ours}) {
        const head = document.querySelector(`#${ours}advanced > .label-wrap`);
        if (!head || opened.has(head) || field(`${ours}variant`)) return;
        opened.add(head);
        if (head.classList.contains("open")) return;
        let folds = true; // unless it is opened in these moments
        const hold = (event) => {
            if (!event.isTrusted) return;
            event.stopImmediatePropagation();
            folds = false;
        };
        head.addEventListener("click", hold, true);
        head.click();
        let frames = 0;
        requestAnimationFrame(function fold() {
            if (!field(`${ours}variant`) && frames++ < 300) return requestAnimationFrame(fold);
            head.removeEventListener("click", hold, true);
            if (folds && head.classList.contains("open")) head.click();
        });
    }

    window.noiseorder.drawSheet = (panel) => {
        if (!within(panel, "cells")) return;
        unfoldOnce(panel);
        if (!panel.tab) arrive(panel);
        resume(panel);
        if (sheetOf(panel)) drawStale(panel);
    };
})();
