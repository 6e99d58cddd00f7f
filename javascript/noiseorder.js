// Draws the key levels and tells what they cost beside the sampling. The server writes the settings, in words and as
// numbers, into .noiseorder-curve; this file only adds to it. It also opens the list of presets anew when there are new
// ones. The playground's page loads it too.
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
        words(x(0), FLOOR + 16, "end", "picture");
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

    const number = (id) => Number(document.querySelector(`#${id} input[type=number]`)?.value);

    // "+2 evaluations ≈ +5 %": beside the evaluations of the first pass, two per step where the negative prompt is asked.
    function share(tab, evaluations) {
        const steps = number(tab + "steps"), cfg = number(tab + "cfg_scale");
        const strength = tab === "img2img_" ? number("img2img_denoising_strength") : 1;
        const percent = 100 * evaluations / (steps * strength * (cfg === 1 ? 1 : 2));
        if (!(evaluations && percent < Infinity)) return "";
        const all = tab === "img2img_" ? `${steps} steps, denoising ${strength}` : `${steps} steps`;
        return ` +${evaluations} evaluation${evaluations === 1 ? "" : "s"} ≈ ` +
            `${percent < 1 ? "less than +1" : `+${Math.round(percent)}`} % at ${all}, CFG ${cfg}`;
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

    function refresh() {
        for (const {ours, tab} of PANELS) {
            for (const name of ["enabled", "advanced", "presets"]) {
                const head = document.querySelector(`#${ours}${name} .label-wrap`);
                if (head) reachable(head);
            }
            const place = document.querySelector(`#${ours}curve .noiseorder-curve`);
            const cost = document.getElementById(`${ours}cost`);
            if (place?.dataset.levels && !place.firstChild) draw(place);
            for (const name of ["cost", "said", "preset_message"]) {
                document.getElementById(ours + name)?.setAttribute("aria-live", "polite");
            }
            if (!cost) continue;
            const line = cost.querySelector("p") || cost;
            const text = share(tab, Number(place?.dataset.evaluations || 0));
            let told = line.querySelector(".noiseorder-share");
            if (!told && !text) continue;
            if (!told) {
                told = line.appendChild(document.createElement("span"));
                told.className = "noiseorder-share";
            }
            // Only what differs: every change wakes the observer again.
            if (told.textContent !== text) told.textContent = text;
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

    let waiting = 0;
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
    for (const event of ["input", "change", "click"]) document.addEventListener(event, soon, true);
    soon();
})();
