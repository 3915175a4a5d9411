// The page that the picture of a claim code leads to: shows the code that stands behind the #, and sends it nowhere.

const code = new URLSearchParams(location.hash.slice(1)).get("code") ?? "";
if (/^[0-9A-Za-z-]{8,40}$/.test(code)) {
  document.getElementById("code").textContent = code;
  document.querySelector("#command code").append(code);
  document.getElementById("with-code").hidden = false;
  document.getElementById("without-code").hidden = true;
}
