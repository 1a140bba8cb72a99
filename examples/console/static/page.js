// What a page does beyond forms and links; all of it works without.
'use strict';

// Copies a key.
for (const button of document.querySelectorAll('[data-copy]')) {
  button.addEventListener('click', async () => {
    const field = document.getElementById(button.dataset.copy);
    const status = document.getElementById('copied');
    try {
      await navigator.clipboard.writeText(field.value);
      status.textContent = status.dataset.copied;
    } catch {
      field.select();
      status.textContent = status.dataset.failed;
    }
  });
}

// A key that is shown once: asks before the page is left, unless it is left by
// the button that says that the key is stored.  Then it takes the key off the
// page, so that going back does not show it.
const secret = document.querySelector('.secret');
if (secret) {
  let stored = secret.dataset.warn === '';
  const field = document.getElementById('key');
  field.addEventListener('focus', () => field.select());
  document.querySelector('[data-leave]').addEventListener('click', () => { stored = true; });
  addEventListener('beforeunload', (event) => { if (!stored) event.preventDefault(); });
  addEventListener('pagehide', () => { field.value = ''; field.removeAttribute('value'); });
}

// A form that is on its way is not sent twice.  The server would notice too.
for (const form of document.forms) {
  form.addEventListener('submit', (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = 'yes';
  });
}
addEventListener('pageshow', () => { for (const form of document.forms) delete form.dataset.sent; });

// The last day matters where it is asked for.
const expiry = document.getElementById('expiry');
if (expiry) {
  const day = document.getElementById('expires_on');
  const show = () => { day.closest('.field').hidden = expiry.value !== 'date'; };
  expiry.addEventListener('change', show);
  show();
}

// What went wrong is where one looks, and listens.
document.querySelector('[role="alert"], [aria-invalid="true"]')?.focus();
