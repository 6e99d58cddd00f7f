// Draws the key levels, which the server writes, in words and as numbers, into .noiseorder-curve, and tells the server
// what the page is set to, for the cost. It also opens the list of presets anew when there are new ones. What follows a
// press of Audition is in sheet.js. The playground's page loads both.
(function() {
    "use strict";
    const SVG = "http://www.w3.org/2000/svg";
    const PANELS = [
        {ours: "script_txt2img_noise_order_", tab: "txt2img_"},
        {ours: "script_img2img_noise_order_", tab: "img2img_"},
        {ours: "noiseorder_", tab: ""}, // the playground
    ];
    const [WIDTH, HEIGHT, MARGIN, FLOOR, TALLEST] = [360, 100, 12, 76, 2];
    const x = (position) => MARGIN + (1 - position) * (WIDTH - 2 * MARGIN); // pure noise at the left
    const y = (weight) => FLOOR - weight / TALLEST * (FLOOR - 20);

    function shape(parent, name, attributes, text) {
        const made = document.createElementNS(SVG, name);
        for (const key in attributes) made.setAttribute(key, attributes[key]);
        if (text !== undefined) made.textContent = text;
        parent.appendChild(made);
        return made;
    }

    function draw(place) {
        const levels = JSON.parse(place.dataset.levels), curve = JSON.parse(place.dataset.curve);
        const svg = shape(place, "svg", {
            viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: "100%", style: "max-width: 480px; display: block",
            fill: "none", stroke: "currentColor", "font-size": 11, "aria-hidden": "true",
        });
        const words = (at, height, anchor, text) =>
            shape(svg, "text", {x: at, y: height, "text-anchor": anchor, fill: "currentColor", stroke: "none"}, text);
        shape(svg, "path", {d: `M${x(1)} ${FLOOR}H${x(0)}`, opacity: 0.5});
        for (const tick of [1, 0.75, 0.5, 0.25, 0]) {
            shape(svg, "path", {d: `M${x(tick)} ${FLOOR}v4`, opacity: 0.5});
            if (tick % 1) words(x(tick), FLOOR + 16, "middle", tick);
        }
        words(x(1), FLOOR + 16, "start", "pure noise");
        words(x(0), FLOOR + 16, "end", "image");
        if (curve.length) {
            shape(svg, "polyline", {
                points: curve.map(([position, weight]) => `${x(position)},${y(weight)}`).join(" "),
                "stroke-width": 2, opacity: 0.7,
            });
        }
        levels.forEach(([position, weight], index) => {
            shape(svg, "path", {d: `M${x(position)} ${FLOOR}V${y(weight)}`, "stroke-dasharray": "2 3", opacity: 0.7});
            shape(svg, "circle", {
                cx: x(position), cy: y(weight), r: 4, stroke: "none", fill: "var(--color-accent, currentColor)",
            });
            words(x(position), y(weight) - 8, "middle", index + 1);
        });
    }

    let settled = 0; // how often the person has paused, or a generation has ended
    const number = (id) => Number(document.querySelector(`#${id} input[type=number]`)?.value);

    // Prompts joined by AND.
    const parts = (selector) => document.querySelector(selector)?.value.trim().split(/\bAND\b/).length || 1;

    // What the tab is set to, for the line that tells the cost.
    function job({ours, tab}) {
        const prompt = parts(`#${tab}prompt textarea`), second = "#hires_prompt textarea";
        const told = {
            steps: number(tab + "steps"), cfg: number(tab + "cfg_scale"), parts: prompt,
            sampler: chosen(tab + "sampling"), scheduler: chosen(tab + "scheduler"),
            width: number(tab + "width"), height: number(tab + "height"),
            settled, // with another one the server tells it anew
        };
        if (tab === "img2img_") {
            // The hosts' own function throws while the tab is not built.
            const built = typeof get_tab_index === "function" && document.querySelector("#mode_img2img div button");
            const inpaints = Boolean(built) && get_tab_index("mode_img2img") >= 2; // or a batch
            Object.assign(told, {img2img: true, strength: number(tab + "denoising_strength"), mask: inpaints});
        }
        if (tab === "txt2img_") {
            Object.assign(told, {
                hires: Boolean(document.querySelector("#txt2img_hr-checkbox input")?.checked),
                hires_steps: number("txt2img_hires_steps"), hires_cfg: number("txt2img_hr_cfg"),
                hires_sampler: chosen("hr_sampler"), // or "Use same sampler"
                hires_parts: document.querySelector(second)?.value.trim() ? parts(second) : prompt,
            });
        }
        put(`#${ours}job textarea, #${ours}job input`, JSON.stringify(told));
    }

    // What has no say is not shown; whether a control was changed since its preset was chosen stands behind the label.
    function show({ours}) {
        const state = document.querySelector(`#${ours}cost [data-idle]`);
        if (!state) return;
        const idle = state.dataset.idle.split(" ");
        for (const name of state.dataset.names.split(" ")) {
            const control = document.getElementById(ours + name), display = idle.includes(name) ? "none" : "";
            if (control && control.style.display !== display) control.style.display = display;
        }
        const label = document.querySelector(`#${ours}preset span[data-testid="block-info"]`);
        if (!label) return;
        const mark = label.querySelector(".noiseorder-changed") || make(label, "span", {class: "noiseorder-changed"}, " (changed)");
        mark.hidden = !state.dataset.changed;
    }

    // The slider alone: a value beyond it is kept, and the box beside it has the whole range.
    function narrow(range, {low, high}) {
        if (!range) return;
        const share = `${100 * (range.value - low) / (high - low)}%`;
        if (range.min !== low || range.max !== high) {
            range.min = low;
            range.max = high;
            range.style.backgroundSize = `${share} 100%`; // as Gradio does
        }
        // Gradio 6 goes by the whole range, and writes it beside the slider.
        const progress = "--range_progress", parent = range.parentElement;
        if (range.style.getPropertyValue(progress)) range.style.setProperty(progress, share);
        for (const [end, value] of [["min", low], ["max", high]]) {
            const text = parent.querySelector(`.${end}_value`);
            if (text && text.textContent !== value) text.textContent = value;
        }
    }

    function tell({ours, tab}) {
        settled += 1; // the server may know more now
        fetch(`noiseorder/v1/outcome?tab=${tab.slice(0, -1)}`).then((answer) => answer.json()).then(({told}) => {
            const place = document.querySelector(`#${ours}outcome .noiseorder-outcome`);
            place.replaceChildren();
            // Numbers stand by themselves, as a WebUI translates whole pieces of text.
            for (const part of told.split(/(\d+(?:\.\d+)?)/)) make(place, "span", {}, part);
        }).catch(() => {});
    }

    // What folds, for keyboard and screen reader: in Gradio 3 the head of an accordion is a plain div.
    function reachable(head) {
        if (head.tagName !== "BUTTON" && !head.hasAttribute("tabindex")) {
            head.tabIndex = 0;
            head.setAttribute("role", "button");
            head.addEventListener("keydown", (event) => {
                if (event.key !== "Enter" && event.key !== " ") return;
                event.preventDefault();
                head.click();
            });
        }
        head.setAttribute("aria-expanded", head.classList.contains("open"));
    }

    // The hosts' own updateInput: Gradio listens for this event.
    function put(selector, value) {
        const field = document.querySelector(selector);
        if (!field || field.value === String(value)) return;
        field.value = value;
        field.dispatchEvent(new Event("input", {bubbles: true}));
    }

    function make(parent, name, attributes, text) {
        const made = document.createElement(name);
        for (const key in attributes) made.setAttribute(key, attributes[key]);
        if (text !== undefined) made.textContent = text;
        return parent.appendChild(made);
    }

    const chosen = (id) => document.querySelector(`#${id} input`)?.value || "Automatic";
    const asked = {}; // what each tab's line was asked for
    const waits = {}; // seconds until it is asked again, where the server did not know

    // "9 candidates at 6 of 20 steps: 2.7 images per image": the server knows the sampler's schedule, on Forge not
    // before a model is loaded.
    function price({ours, tab}) {
        const line = document.querySelector(`#${ours}sheet .noiseorder-price`);
        if (!line) return;
        const state = document.querySelector(`#${ours}cost [data-injected]`);
        const query = new URLSearchParams({
            sampler: chosen(tab + "sampling"), scheduler: chosen(tab + "scheduler"), steps: number(tab + "steps"),
            width: number(tab + "width"), height: number(tab + "height"), cfg: number(tab + "cfg_scale"),
            strength: tab === "img2img_" ? number("img2img_denoising_strength") : 1,
            candidates: number(ours + "audition_candidates"), depth: number(ours + "audition_depth"),
            evaluations: state?.dataset.injected || 0,
            parts: parts(`#${tab}prompt textarea`),
            images: (number(tab + "batch_count") || 1) * (number(tab + "batch_size") || 1),
            settled, // with another one the server tells it anew
        }).toString();
        // While the host samples, nothing is found out about a sampler.
        if (query.includes("NaN") || asked[ours] === query || generates(tab)) return;
        if (asked[ours]) waits[ours] = 0; // other settings: the server may know these at once
        asked[ours] = query;
        fetch(`noiseorder/v1/audition/cost?${query}`).then((answer) => answer.ok ? answer.json() : {told: "", known: true})
            .then(({told, known}) => {
                if (asked[ours] !== query) return;
                if (line.textContent !== told) line.textContent = told;
                waits[ours] = known ? 0 : Math.min(2 * waits[ours] || 1, 60);
                if (known) return;
                // A model is being loaded, or another tab generates; of a few samplers it is never known.
                setTimeout(() => {
                    if (asked[ours] === query) asked[ours] = "";
                    soon();
                }, 1000 * waits[ours]);
            })
            .catch(() => { asked[ours] = ""; });
    }

    // One of these three is shown while the tab generates: the last one while an interrupted batch goes on.
    const generates = (tab) => ["interrupt", "skip", "interrupting"].some((name) => {
        const button = document.getElementById(tab + name);
        return button && getComputedStyle(button).display !== "none";
    });

    document.addEventListener("noiseorder-generated", ({detail}) => tell(PANELS.find(({tab}) => tab === `${detail}_`)));
    // What javascript/sheet.js, which is loaded after this, needs; it adds what is to be done for each panel.
    window.noiseorder = {PANELS, number, put, make, generates, drawSheet: () => {}};

    function refresh() {
        for (const {ours, tab} of PANELS) {
            window.noiseorder.drawSheet({ours, tab});
            price({ours, tab});
            job({ours, tab});
            show({ours});
            for (const told of document.querySelectorAll(`#${ours}help [data-name]`)) {
                const control = document.getElementById(ours + told.dataset.name);
                if (control && control.title !== told.textContent) control.title = told.textContent;
                if (control && told.dataset.low) narrow(control.querySelector("input[type=range]"), told.dataset);
            }
            for (const name of ["enabled", "advanced", "presets", "inspector"]) {
                const head = document.querySelector(`#${ours}${name} .label-wrap`);
                if (head) reachable(head);
            }
            const place = document.querySelector(`#${ours}curve .noiseorder-curve`);
            if (place?.dataset.levels && !place.firstChild) draw(place);
            for (const name of ["cost", "said", "preset_message"]) {
                document.getElementById(ours + name)?.setAttribute("aria-live", "polite");
            }
        }
    }

    // A list of presets that was opened before the server told the names there are now. Not while something is typed.
    const opened = new WeakMap();
    document.addEventListener("focusin", ({target}) => opened.set(target, target.value), true);
    let reopened = "";
    window.noiseorderReopen = (id, names) => setTimeout(() => {
        const input = document.querySelector(`#${id} input`), told = names.join("\n");
        const shown = [...document.querySelectorAll(`#${id} ul.options li`)].map((item) => item.getAttribute("aria-label"));
        if (!shown.length || input !== document.activeElement || input.value !== opened.get(input)) return;
        if (shown.join("\n") === told || reopened === told) return;
        reopened = told;
        input.blur();
        input.focus();
    });

    let waiting = 0, settling = 0;
    function soon() {
        clearTimeout(waiting);
        waiting = setTimeout(refresh, 50);
    }

    if (typeof onAfterUiUpdate === "function") {
        onAfterUiUpdate(refresh);
    } else {
        new MutationObserver(soon).observe(document.documentElement, {childList: true, subtree: true});
    }
    // Steps and CFG are the page's own; moving them, and folding, adds and removes nothing in the document.
    for (const event of ["input", "change", "click"]) {
        document.addEventListener(event, ({isTrusted}) => {
            soon();
            if (!isTrusted) return;
            // Of several answers under way, one to older settings may come last: once more when the person has paused.
            clearTimeout(settling);
            settling = setTimeout(() => {
                settled += 1;
                refresh();
            }, 1000);
        }, true);
    }
    soon();
})();
