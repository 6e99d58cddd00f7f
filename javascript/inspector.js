// Keeps the noise inspector up to date: when it is opened, and when a generation of this page has ended, which
// noiseorder.js is told too. Also keeps its boxes and the one on the settings page, which would undo them when settings
// are applied, the same; with a login the boxes are the user's, and the settings page is everybody's.
(function() {
    "use strict";
    const TABS = ["txt2img", "img2img"];
    const ours = (tab, name) => `#script_${tab}_noise_order_${name}`;
    const BOXES = ["#setting_noiseorder_inspector", ...TABS.map((tab) => ours(tab, "inspector_on"))];
    const shown = new Set(); // what shows the last generation
    const again = new Set(); // pressed at the end of a generation, perhaps while an earlier answer was on its way
    const watched = new WeakSet();

    function refresh() {
        for (const tab of TABS) {
            const button = document.querySelector(ours(tab, "inspect"));
            if (!button?.offsetParent) shown.delete(tab);
            else if (!shown.has(tab)) {
                shown.add(tab);
                button.click();
            }
        }
    }

    function watch() {
        for (const tab of TABS) {
            // Gradio 6 has in the document only what is unfolded, and makes it anew each time.
            once(document.querySelector(ours(tab, "inspect")), (button) =>
                new ResizeObserver(refresh).observe(button)); // also when it is folded and unfolded
            // The host hides this one when the generation has ended, interrupted or not.
            once(document.getElementById(`${tab}_skip`), (skip) => {
                let running = false;
                new MutationObserver(() => {
                    const before = running;
                    running = getComputedStyle(skip).display !== "none";
                    if (running || !before) return;
                    document.dispatchEvent(new CustomEvent("noiseorder-generated", {detail: tab}));
                    shown.clear();
                    TABS.forEach((each) => again.add(each));
                    refresh();
                }).observe(skip, {attributes: true, attributeFilter: ["style"]});
            });
            // Gradio drops what is pressed meanwhile, and takes the next press shortly after the answer.
            once(document.querySelector(ours(tab, "inspected")), (inspected) =>
                new MutationObserver((changes) => {
                    const answered = changes.some(({target, addedNodes}) => // Gradio 6 changes the one that is there
                        [target, ...addedNodes].some((node) => node.classList?.contains("noiseorder-answer")));
                    if (!answered || !again.delete(tab)) return;
                    setTimeout(() => {
                        shown.delete(tab);
                        refresh();
                    }, 300);
                }).observe(inspected, {childList: true, subtree: true, attributeFilter: ["data-number"]}));
        }
    }

    function once(element, begin) {
        if (!element || watched.has(element)) return;
        watched.add(element);
        begin(element);
    }

    document.addEventListener("change", ({target}) => {
        const place = BOXES.slice(1).find((box) => target.closest?.(box)), own = document.querySelector(".noiseorder-own");
        for (const box of place ? BOXES.slice(own ? 1 : 0) : []) {
            const input = document.querySelector(`${box} input[type=checkbox]`);
            if (input && input.checked !== target.checked) input.click();
        }
    }, true);
    onAfterUiUpdate(watch);
})();
